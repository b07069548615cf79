"""The layers: shapes, numerics against NumPy, configuration, and what they refuse."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import AVX512
from tensorflow.python.eager import context

from keras_mixer import layers

LAYERS = [
    layers.PatchEmbed(6, 4),
    layers.MlpBlock(7, "tokens", dropout_rate=0.1),
    layers.MlpBlock(7, "channels"),
    layers.Dropout(0.3, noise_shape=(None, 1, 4), seed=3),
    layers.StochasticDepth(0.3, rescale=True, seed=3),
    layers.MixerBlock(5, 7, dropout_rate=0.1, stochastic_depth_rate=0.2, rescale_stochastic_depth=True),
    layers.MixerBlock(5, 7, stochastic_depth_rate=0.2, rematerialize=True),
]


def _inputs(layer):
    shape = (2, 8, 12, 3) if isinstance(layer, layers.PatchEmbed) else (2, 6, 4)
    return np.random.default_rng(0).normal(size=shape).astype("float32")


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_config_round_trip_gives_the_same_layer(layer):
    copy = type(layer).from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    x = _inputs(layer)
    y = layer(x)
    assert tuple(y.shape) == tuple(layer.compute_output_shape(x.shape))
    copy(x)
    for ours, theirs in zip(copy.weights, layer.weights, strict=True):
        assert ours.shape == theirs.shape
        ours.assign(theirs)
    np.testing.assert_array_equal(np.asarray(copy(x)), np.asarray(layer(x)))


def test_patch_embed_is_one_projection_of_each_patch_in_row_major_order():
    layer, images = layers.PatchEmbed(5, 4), np.random.default_rng(1).normal(size=(2, 8, 12, 3)).astype("float32")
    tokens = np.asarray(layer(images))
    kernel, bias = (np.asarray(w) for w in layer.conv.weights)
    patches = images.reshape(2, 2, 4, 3, 4, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, 6, 48)  # (B, S, P P 3)
    np.testing.assert_allclose(tokens, patches @ kernel.reshape(48, 5) + bias, atol=1e-5)  # measured 1e-6


@pytest.mark.parametrize("over", ["tokens", "channels"])
@pytest.mark.parametrize(("tokens", "hidden", "channels"), [(6, 5, 4), (6, 4, 4), (4, 5, 4), (5, 5, 5)])
def test_mlp_block_is_two_products_along_its_axis(over, tokens, hidden, channels):
    """Also where sizes are equal, and a bias would fit another axis too."""
    rng, block = np.random.default_rng(2), layers.MlpBlock(hidden, over)
    x = rng.normal(size=(3, tokens, channels)).astype("float32")
    block.build(x.shape)
    kernel_0, bias_0, kernel_1, bias_1 = weights = [rng.normal(size=w.shape) for w in block.weights]
    block.set_weights(weights)
    rows = x.transpose(0, 2, 1) if over == "tokens" else x
    y = rows @ kernel_0 + bias_0
    y = 0.5 * y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3))) @ kernel_1 + bias_1
    expected = y.transpose(0, 2, 1) if over == "tokens" else y
    np.testing.assert_allclose(np.asarray(block(x)), expected, atol=1e-5)  # measured 4e-6


def test_gelu_is_the_tanh_approximation():
    x = np.linspace(-4, 4, 101, dtype="float32")
    expected = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    np.testing.assert_allclose(np.asarray(layers.gelu(x)), expected, atol=1e-6)
    assert np.abs(np.asarray(keras.activations.gelu(x)) - expected).max() > 1e-4  # the default would be seen


def test_layer_norm_epsilon_is_the_authors():
    block = layers.MixerBlock(2, 2)
    assert block.layer_norm_0.epsilon == block.layer_norm_1.epsilon == 1e-6


@pytest.mark.parametrize("rescale", [False, True])
def test_stochastic_depth_drops_whole_examples_at_its_rate(rescale):
    layer = layers.StochasticDepth(0.25, rescale=rescale, seed=1)
    kept = np.asarray(layer(np.ones((8000, 3, 2), "float32"), training=True))
    assert (kept == kept[:, :1, :1]).all()
    values = kept[:, 0, 0]
    np.testing.assert_allclose(sorted(set(values.tolist())), [0, 1 / 0.75 if rescale else 1], rtol=1e-6)
    # Binomial with standard deviation 39 of 8000; five of them.
    assert abs((values == 0).sum() - 2000) < 195
    assert (np.asarray(layer(np.ones((4, 3, 2), "float32"), training=False)) == 1).all()


def test_the_two_branches_of_a_block_drop_independently():
    block = layers.MixerBlock(3, 3, stochastic_depth_rate=0.5)
    x = np.random.default_rng(0).normal(size=(400, 4, 2)).astype("float32")
    block(x)
    block.token_mixing.dense_1.bias.assign([100.0] * 4)
    block.channel_mixing.dense_1.bias.assign([1000.0] * 2)
    added = np.rint(np.asarray(block(x, training=True) - x)[:, 0, 0] / 100).astype(int)
    assert {0, 1, 10, 11} <= set(added.tolist())


class _DrawsTwice(layers.MixerBlock):
    """Rematerialisation as it must not be: the second computation draws again."""

    def call(self, x, training=None):
        return keras.remat(functools.partial(super().call, training=training))(x)


def _gradients(make, compiler):
    """The loss and gradients of three blocks in training, and the matrix products that the graph holds for them."""
    keras.utils.set_random_seed(0)
    blocks = keras.Sequential([make() for _ in range(3)])
    x = tf.constant(np.random.default_rng(0).normal(size=(8, 6, 4)).astype("float32"))
    blocks(x)
    values = [variable.value for variable in blocks.trainable_variables]

    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(blocks(x, training=True)))
        return loss, tape.gradient(loss, values)

    if compiler == "eager":
        return *step(x), None
    compiled = tf.function(step, jit_compile=compiler == "xla")
    nodes = compiled.get_concrete_function(x).graph.as_graph_def().node
    return *compiled(x), sum("MatMul" in node.op for node in nodes)


@pytest.mark.parametrize("compiler", ["eager", "graph", "xla"])
def test_rematerialised_gradients_are_the_plain_ones(compiler):
    make = lambda **kwargs: layers.MixerBlock(5, 7, stochastic_depth_rate=0.5, **kwargs)
    loss, gradients, products = _gradients(make, compiler)
    loss_again, gradients_again, products_again = _gradients(lambda: make(rematerialize=True), compiler)
    assert max(np.abs(g).max() for g in gradients) > 0.1
    np.testing.assert_allclose(loss_again, loss, rtol=1e-6)
    for again, plain in zip(gradients_again, gradients, strict=True):
        np.testing.assert_allclose(again, plain, atol=1e-6)  # measured 1e-7
    # In each of three blocks four products forward and eight backward, and the four once more.
    assert compiler == "eager" or (products, products_again) == (3 * 12, 3 * 16)


def test_rematerialised_gradients_would_be_seen_to_drop_other_branches():
    make = lambda cls: lambda: cls(5, 7, stochastic_depth_rate=0.5)
    loss, gradients, _ = _gradients(make(layers.MixerBlock), "graph")
    loss_again, gradients_again, _ = _gradients(make(_DrawsTwice), "graph")
    np.testing.assert_allclose(loss_again, loss, rtol=1e-6)
    assert max(np.abs(a - b).max() for a, b in zip(gradients_again, gradients, strict=True)) > 0.01


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: layers.PatchEmbed(0, 4), "PatchEmbed: hidden_dim must be a positive integer, got 0."),
        (lambda: layers.PatchEmbed(4, 2.5), "PatchEmbed: patch_size must be a positive integer, got 2.5."),
        (lambda: layers.MlpBlock(True), "MlpBlock: hidden_dim must be a positive integer, got True."),
        (lambda: layers.MlpBlock(4, "rows"), "MlpBlock: over must be 'channels' or 'tokens', got 'rows'."),
        (lambda: layers.MlpBlock(4, dropout_rate=1), r"MlpBlock: dropout_rate must be a fraction in \[0, 1\), got 1."),
        (lambda: layers.StochasticDepth(-0.1), r"StochasticDepth: rate must be a fraction in \[0, 1\), got -0.1."),
        (lambda: layers.StochasticDepth(0.1, "no"), "StochasticDepth: rescale must be True or False, got 'no'."),
        (lambda: layers.Dropout(1.0), r"Dropout: rate must be a fraction in \[0, 1\), got 1.0."),
        (lambda: layers.MixerBlock(4, 4, rematerialize=1), "MixerBlock: rematerialize must be True or False, got 1."),
        (
            lambda: layers.MixerBlock(4, 4, dropout_rate=0.1, rematerialize=True),
            "MixerBlock: rematerialize=True cannot repeat the draws of dropout_rate 0.1; use dropout_rate=0",
        ),
        (lambda: layers.MixerBlock(4, -1), "MixerBlock: channels_mlp_dim must be a positive integer, got -1."),
        (
            lambda: layers.PatchEmbed(4, 16)(np.zeros((1, 224, 230, 3), "float32")),
            "the image width 230 is not a positive multiple of the patch size 16; use for example 224",
        ),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_one_operation_computes_a_dense_layer_and_its_gelu(precision):
    """In the graph as TensorFlow optimises it for a CPU: what it matches hangs on names, and would be lost unseen."""
    block = layers.MixerBlock(5, 7, dtype=precision)
    block.build((None, 6, 4))
    function = tf.function(lambda x: block(x, training=False)).get_concrete_function(tf.TensorSpec((None, 6, 4)))
    context.context().enable_run_metadata()
    try:
        function(tf.zeros((2, 6, 4)))
        graphs = context.context().export_run_metadata().function_graphs
    finally:
        context.context().disable_run_metadata()
    nodes = [node for graph in graphs for node in graph.post_optimization_graph.node]
    fused = [b"+".join(node.attr["fused_ops"].list.s) for node in nodes if node.op == "_FusedMatMul"]
    if precision == "mixed_bfloat16" and not AVX512:  # TensorFlow has no such operation for this CPU
        assert fused == []
        return
    assert fused.count(b"BiasAdd+GeluApproximate") == 2, fused
    assert len(fused) == 4
    assert not [node for node in nodes if node.op in ("Tanh", "MatMul", "BatchMatMulV2")]
