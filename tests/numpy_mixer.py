"""MLP-Mixer's forward pass in NumPy, from the paper's equations and the released names; no code of the package."""

import math

import numpy as np


def tanh_gelu(x):
    return 0.5 * x * (1 + np.tanh(np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x**3)))


def exact_gelu(x):
    return (0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))).astype("float32")


def forward(weights, images, gelu=tanh_gelu):
    """Return (pre_logits, logits) of float32 images (B, H, W, 3) for name -> array in the released layout."""

    def layer_norm(x, name):
        mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        return (x - mean) / np.sqrt(variance + np.float32(1e-6)) * weights[f"{name}/scale"] + weights[f"{name}/bias"]

    def mlp(x, name):
        x = gelu(x @ weights[f"{name}/Dense_0/kernel"] + weights[f"{name}/Dense_0/bias"])
        return x @ weights[f"{name}/Dense_1/kernel"] + weights[f"{name}/Dense_1/bias"]

    kernel = weights["stem/kernel"]  # (P, P, 3, C)
    size, channels = kernel.shape[0], kernel.shape[3]
    batch, height, width, _ = images.shape
    x = images.reshape(batch, height // size, size, width // size, size, 3).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(batch, -1, size * size * 3) @ kernel.reshape(-1, channels) + weights["stem/bias"]  # (B, S, C)
    block = 0
    while f"MixerBlock_{block}/LayerNorm_0/scale" in weights:
        name = f"MixerBlock_{block}"
        y = layer_norm(x, f"{name}/LayerNorm_0").transpose(0, 2, 1)  # (B, C, S)
        x = x + mlp(y, f"{name}/token_mixing").transpose(0, 2, 1)
        x = x + mlp(layer_norm(x, f"{name}/LayerNorm_1"), f"{name}/channel_mixing")
        block += 1
    pre_logits = layer_norm(x, "pre_head_layer_norm").mean(1)  # (B, C)
    return pre_logits, pre_logits @ weights["head/kernel"] + weights["head/bias"]


def random_weights(shapes, seed=0):
    """Return name -> array: LeCun-normal kernels, also for the head, small biases, LayerNorm scales around one."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in shapes.items():
        values = rng.standard_normal(shape, "float32")
        if name.endswith("/kernel"):
            weights[name] = values / np.float32(math.sqrt(math.prod(shape[:-1])))
        else:
            weights[name] = np.float32(0.1) * values + np.float32(name.endswith("/scale"))
    return weights
