"""The layers of MLP-Mixer, in `keras.ops` only, so that they run on any Keras backend.

Shapes use one letter each: B images, H and W pixels, P pixels per patch side, S tokens (patches), C channels,
D hidden units of an MLP.
"""

import contextvars
import functools
import inspect
from typing import Any

import keras
from keras import ops

from keras_mixer import arguments, random_draws
from keras_mixer.composite import CompositeLayer
from keras_mixer.one_pass import one_pass
from keras_mixer.types import Config, Grid, Shape, Tensor

LAYER_NORM_EPSILON = 1e-6  # the authors' value; the Keras default, 1e-3, gives other logits

# The authors' GELU is the tanh approximation; the Keras default is the exact one.
gelu = functools.partial(keras.activations.gelu, approximate=True)

# Zeros instead, while a model is built only to be loaded: random numbers for L/16 take longer than reading its file.
kernel_initializer = contextvars.ContextVar("kernel_initializer", default="lecun_normal")

_register = keras.saving.register_keras_serializable(package="keras_mixer")


@_register
class PatchEmbed(CompositeLayer):
    """Cut images into patches and project each to C channels, with one strided convolution (paper section 2).

    Args:
        hidden_dim: C, the channels of a token.
        patch_size: P, the side of a patch in pixels.

    Input: (B, H, W, 3) float, any value range. Output: (B, S, C), S = H W / P^2, tokens in row-major order.

    Raises:
        ValueError: if P does not divide H and W.

    Example:
        >>> tuple(PatchEmbed(hidden_dim=8, patch_size=4)(keras.ops.ones((2, 16, 12, 3))).shape)
        (2, 12, 8)
    """

    def __init__(self, hidden_dim: int, patch_size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        arguments.check_positive_int("PatchEmbed", hidden_dim=hidden_dim, patch_size=patch_size)
        self.hidden_dim = int(hidden_dim)
        self.patch_size = int(patch_size)
        self.conv = keras.layers.Conv2D(
            self.hidden_dim,
            self.patch_size,
            strides=self.patch_size,
            data_format="channels_last",
            kernel_initializer=kernel_initializer.get(),
            dtype=self.dtype_policy,
            name="conv",
        )

    def build(self, input_shape: Shape) -> None:
        self._grid(input_shape)
        self.image_shape = tuple(int(side or 0) for side in input_shape[1:])  # none is None, see _grid
        self.conv.build(input_shape)
        self.restore_parts()

    def parts(self) -> dict[str, keras.layers.Layer]:
        return {"conv": self.conv}

    def call(self, images: Tensor) -> Tensor:
        arguments.check_known_shape(images.shape, self.image_shape)
        grid = self.conv(images)  # (B, H, W, 3) -> (B, H/P, W/P, C)
        rows, columns = self._grid(images.shape)
        return ops.reshape(grid, (-1, rows * columns, self.hidden_dim))  # -> (B, S, C)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        rows, columns = self._grid(input_shape)
        return (input_shape[0], rows * columns, self.hidden_dim)

    def _grid(self, shape: Shape) -> Grid:
        return arguments.check_grid(shape[1], shape[2], self.patch_size)

    def get_config(self) -> Config:
        return {**super().get_config(), "hidden_dim": self.hidden_dim, "patch_size": self.patch_size}


@_register
class Dropout(keras.layers.Dropout):
    """`keras.layers.Dropout` whose draws, from `random_draws.uniform`, do not depend on how a batch is divided."""

    def __init__(self, rate: float, **kwargs: Any) -> None:
        arguments.check_rate("Dropout", rate=rate)
        super().__init__(float(rate), **kwargs)

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        if not training or not self.rate:
            return inputs
        shape = ops.shape(inputs)
        if self.noise_shape is not None:
            shape = tuple(given or size for given, size in zip(self.noise_shape, shape, strict=True))
        keep = random_draws.uniform(shape, self.seed_generator) >= self.rate
        return ops.where(keep, inputs / (1 - self.rate), ops.zeros_like(inputs))


@_register
class MlpBlock(CompositeLayer):
    """Dense, tanh GELU, Dense back to the input's size, along the channels or along the tokens (paper section 2).

    Args:
        hidden_dim: D, the units between the two Dense layers.
        over: "channels" (the last axis) or "tokens" (axis 1).
        dropout_rate: fraction dropped after each Dense layer while training.

    Input and output: (B, S, C) float.

    Raises:
        ValueError: for a non-positive `hidden_dim`, another `over`, or a rate outside [0, 1).

    Example:
        >>> tuple(MlpBlock(hidden_dim=32, over="tokens")(keras.ops.ones((2, 16, 8))).shape)
        (2, 16, 8)
    """

    def __init__(self, hidden_dim: int, over: str = "channels", dropout_rate: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        arguments.check_positive_int("MlpBlock", hidden_dim=hidden_dim)
        arguments.check_rate("MlpBlock", dropout_rate=dropout_rate)
        if over not in ("channels", "tokens"):
            raise ValueError(f"MlpBlock: over must be 'channels' or 'tokens', got {over!r}.")
        self.hidden_dim = int(hidden_dim)
        self.over = over
        self.dropout_rate = float(dropout_rate)

    def build(self, input_shape: Shape) -> None:
        size = input_shape[1] if self.over == "tokens" else input_shape[2]
        kwargs = {"kernel_initializer": kernel_initializer.get(), "dtype": self.dtype_policy}
        self.dense_0 = keras.layers.Dense(self.hidden_dim, name="dense_0", **kwargs)
        self.dense_1 = keras.layers.Dense(size, name="dense_1", **kwargs)
        self.dropout = None
        if self.dropout_rate:
            self.dropout = Dropout(self.dropout_rate, dtype=self.dtype_policy, name="dropout")
        self.dense_0.build((None, size))
        self.dense_1.build((None, self.hidden_dim))
        self.restore_parts()

    def parts(self) -> dict[str, keras.layers.Layer]:
        return {name: getattr(self, name) for name in ("dense_0", "dense_1") if hasattr(self, name)}

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        if self.over == "tokens":
            x = ops.transpose(x, (0, 2, 1))  # (B, S, C) -> (B, C, S)
        rows, size = x.shape[1:]
        # As matrices, of which TensorFlow makes one operation of product, bias and GELU: docs/results/token_mixing.md.
        x = self.dense_0(ops.reshape(x, (-1, size)))  # channels: (B S, D); tokens: (B C, D)
        with keras.name_scope("gelu"):  # without it TensorFlow does not find GELU, for it matches by order of names
            x = one_pass(gelu)(x) if training else gelu(x)
        x = self._drop(x, (-1, rows, self.hidden_dim), training)
        x = self.dense_1(ops.reshape(x, (-1, self.hidden_dim)))
        x = self._drop(ops.reshape(x, (-1, rows, size)), (-1, rows, size), training)
        return ops.transpose(x, (0, 2, 1)) if self.over == "tokens" else x  # (B, S, C)

    def _drop(self, x: Tensor, shape: Shape, training: bool | None) -> Tensor:
        return self.dropout(ops.reshape(x, shape), training=training) if self.dropout is not None and training else x

    def get_config(self) -> Config:
        own = {"hidden_dim": self.hidden_dim, "over": self.over, "dropout_rate": self.dropout_rate}
        return {**super().get_config(), **own}


@_register
class StochasticDepth(keras.layers.Layer):
    """Drop a residual branch, per image, while training (paper section 3; Huang et al. 2016).

    Args:
        rate: the fraction of images whose branch is dropped.
        rescale: False, as the authors trained: a kept branch is unchanged. True divides it by 1 - rate, as
            other Keras layers do, so that its mean is that of inference.
        seed: of the layer's random stream.

    Input and output: (B, ...) float.

    Raises:
        ValueError: for a rate outside [0, 1), or another `rescale` than True or False.

    Example:
        >>> x = keras.ops.ones((4, 2, 3))
        >>> bool(keras.ops.all(StochasticDepth(0.5)(x, training=False) == x))
        True
    """

    def __init__(self, rate: float, rescale: bool = False, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        arguments.check_rate("StochasticDepth", rate=rate)
        arguments.check_bool("StochasticDepth", rescale=rescale)
        self.rate = float(rate)
        self.rescale = bool(rescale)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed) if rate else None

    def build(self, input_shape: Shape) -> None:
        """Do nothing, for there are no weights; but Keras quantises only a model of which every layer is built."""

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        return x * self.draw(x) if training and self.rate else x

    def draw(self, x: Tensor) -> Tensor:
        """Return the factor of each image's branch, (B, 1, ...) in the dtype of x."""
        shape = (ops.shape(x)[0],) + (1,) * (len(x.shape) - 1)
        keep = ops.cast(random_draws.uniform(shape, self.seed_generator) >= self.rate, x.dtype)
        return keep / (1 - self.rate) if self.rescale else keep

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> Config:
        return {**super().get_config(), "rate": self.rate, "rescale": self.rescale, "seed": self.seed}


@_register
class MixerBlock(CompositeLayer):
    """Token mixing, then channel mixing, each after a LayerNorm and inside a residual (paper section 2).

    Args:
        tokens_mlp_dim: D_S, hidden units of the token-mixing MLP.
        channels_mlp_dim: D_C, hidden units of the channel-mixing MLP.
        dropout_rate: fraction dropped after each Dense layer while training.
        stochastic_depth_rate: fraction of images for which a branch is dropped while training.
        rescale_stochastic_depth: see `StochasticDepth`; the authors' way is False.
        rematerialize: True keeps only the block's input while training and computes the rest again in the backward
            pass: less memory, more time, the same gradients.

    Input and output: (B, S, C) float.

    Raises:
        ValueError: for a non-positive size, a rate outside [0, 1), or `rematerialize` with dropout.

    Example:
        >>> tuple(MixerBlock(tokens_mlp_dim=8, channels_mlp_dim=16)(keras.ops.ones((2, 4, 6))).shape)
        (2, 4, 6)
    """

    def __init__(
        self,
        tokens_mlp_dim: int,
        channels_mlp_dim: int,
        dropout_rate: float = 0.0,
        stochastic_depth_rate: float = 0.0,
        rescale_stochastic_depth: bool = False,
        rematerialize: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        arguments.check_positive_int("MixerBlock", tokens_mlp_dim=tokens_mlp_dim, channels_mlp_dim=channels_mlp_dim)
        arguments.check_bool("MixerBlock", rescale_stochastic_depth=rescale_stochastic_depth)
        arguments.check_rematerialize("MixerBlock", rematerialize, dropout_rate)
        self.tokens_mlp_dim = int(tokens_mlp_dim)
        self.channels_mlp_dim = int(channels_mlp_dim)
        self.dropout_rate = float(dropout_rate)
        self.stochastic_depth_rate = float(stochastic_depth_rate)
        self.rescale_stochastic_depth = bool(rescale_stochastic_depth)
        self.rematerialize = bool(rematerialize)
        dtype = self.dtype_policy
        norm = functools.partial(keras.layers.LayerNormalization, epsilon=LAYER_NORM_EPSILON, dtype=dtype)
        self.layer_norm_0 = norm(name="layer_norm_0")
        self.token_mixing = MlpBlock(tokens_mlp_dim, "tokens", dropout_rate, dtype=dtype, name="token_mixing")
        self.layer_norm_1 = norm(name="layer_norm_1")
        self.channel_mixing = MlpBlock(channels_mlp_dim, "channels", dropout_rate, dtype=dtype, name="channel_mixing")
        self.stochastic_depth = StochasticDepth(
            stochastic_depth_rate, rescale_stochastic_depth, dtype=dtype, name="stochastic_depth"
        )

    def build(self, input_shape: Shape) -> None:
        for layer in (*self.parts().values(), self.stochastic_depth):
            layer.build(input_shape)
        self.restore_parts()

    def parts(self) -> dict[str, keras.layers.Layer]:
        layers = (self.layer_norm_0, self.token_mixing, self.layer_norm_1, self.channel_mixing)
        return {layer.name: layer for layer in layers}

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        factors: tuple[Tensor, ...] = ()
        if training and self.stochastic_depth_rate:
            # Drawn here and passed on: drawn inside, the second computation would drop other branches than the first.
            factors = self.stochastic_depth.draw(x), self.stochastic_depth.draw(x)
        mix = functools.partial(self._mix, training)
        return (keras.remat(mix) if training and self.rematerialize else mix)(x, *factors)

    def _mix(self, training: bool | None, x: Tensor, *factors: Tensor) -> Tensor:
        y = self.token_mixing(self.layer_norm_0(x), training=training)  # (B, S, C), mixed over S
        x = x + (y * factors[0] if factors else y)
        y = self.channel_mixing(self.layer_norm_1(x), training=training)  # (B, S, C), mixed over C
        return x + (y * factors[1] if factors else y)

    def get_config(self) -> Config:
        own = inspect.signature(MixerBlock).parameters
        return {**super().get_config(), **{name: getattr(self, name) for name in own if name != "kwargs"}}
