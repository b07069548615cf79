"""Floating-point operations: from sizes and from TensorFlow's own graph, which must agree exactly."""

import math
import statistics

import keras
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_mixer
from keras_mixer import cost_model
from keras_mixer.paper import VARIANTS

SIZES = dict(patch_size=4, num_blocks=2, hidden_dim=16, tokens_mlp_dim=8, channels_mlp_dim=32)


def _build(side=16, classes=10, **sizes):
    return keras_mixer.MLPMixer(**(SIZES | sizes), input_shape=(side, side, 3), classes=classes)


def _flop_of_graph(model):
    """Multiply out the shapes of every matrix product and convolution in the traced forward pass of one image."""
    traced = tf.function(lambda x: model(x, training=False)).get_concrete_function(
        tf.TensorSpec((1, *model.input_shape[1:]))
    )
    total = 0
    functions = [traced.graph, *(traced.graph._get_function(name).graph for name in traced.graph._functions)]
    for graph in functions:
        for op in graph.get_operations():
            out = op.outputs[0].shape.as_list() if op.outputs else []
            if op.type in ("MatMul", "BatchMatMulV2", "BatchMatMul"):
                flag = op.get_attr("transpose_a" if op.type == "MatMul" else "adj_x")
                total += 2 * math.prod(out) * op.inputs[0].shape[-2 if flag else -1]
            elif op.type == "Conv2D":
                total += 2 * math.prod(out) * math.prod(op.inputs[1].shape[:3])
    return total


def _total(side, sizes, classes=1000):
    return sum(cost_model.mixer_flop(side, sizes, classes).values())


@pytest.mark.parametrize("sizes", [{}, {"patch_size": 2, "tokens_mlp_dim": 5}, {"num_blocks": 3, "hidden_dim": 7}])
def test_sizes_and_graph_agree_exactly(sizes):
    parts = cost_model.mixer_flop(16, SIZES | sizes, classes=10)
    assert list(parts) == ["stem", "token_mixing", "channel_mixing", "head"]
    assert min(parts.values()) > 0
    assert sum(parts.values()) == _flop_of_graph(_build(**sizes))


def test_a_layer_more_in_the_graph_is_seen():
    model = _build()
    more = keras.Model(model.input, keras.layers.Dense(7)(model.output))
    assert _flop_of_graph(more) == _flop_of_graph(model) + 2 * 10 * 7 == _total(16, SIZES, 10) + 2 * 10 * 7


@pytest.mark.parametrize(("name", "flop"), [("s32", 2_004_852_736), ("b16", 25_203_535_872), ("l16", 89_095_356_416)])
def test_variants_match_what_torch_counts_for_timm(name, flop):
    """timm 1.0.31 and torch.utils.flop_counter on mixer_s32_224, mixer_b16_224, mixer_l16_224: difference 0."""
    assert _total(224, VARIANTS[name]) == flop


def test_vit_matches_what_torch_counts_for_timm():
    """timm 1.0.31 and torch.utils.flop_counter on vit_base_patch16_224: difference 0."""
    assert cost_model.vit_flop(224, 16, 12, 768, 3072) == 35_127_656_448


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 8), st.integers(2, 6))
def test_a_mixer_is_linear_in_pixels_and_a_vit_is_not(grid, factor):
    small, large = (_total(4 * grid * k, SIZES, classes=1) for k in (1, factor))
    head = 2 * SIZES["hidden_dim"]
    assert large - head == factor**2 * (small - head)
    small, large = (cost_model.vit_flop(4 * grid * k, 4, 2, 16, 64, classes=1) - head for k in (1, factor))
    fixed = 2 * (8 * 16**2 + 4 * 16 * 64 + 4 * 16)  # the class token alone
    assert large - fixed > factor**2 * (small - fixed)


def test_the_rest_is_small_beside_the_products():
    """Operations per element, about: LayerNorm 8, GELU 9, a bias, a residual sum and a mean 1 each."""
    sizes = VARIANTS["b16"]
    elements = 196 * sizes["hidden_dim"]
    hidden = sizes["tokens_mlp_dim"] * sizes["hidden_dim"] + 196 * sizes["channels_mlp_dim"]
    rest = sizes["num_blocks"] * (2 * (8 + 1 + 1) * elements + (1 + 9) * hidden) + (1 + 8 + 1) * elements + 1000
    assert 0.005 < rest / _total(224, sizes) < 0.007  # docs/guides/benchmarking.md


@pytest.mark.parametrize("name", ["s32", "l16"])
def test_weights_are_counted_as_keras_counts_them(name):
    sizes = VARIANTS[name] | {"num_blocks": 2}
    model = keras_mixer.MLPMixer(**sizes, input_shape=(64, 64, 1), classes=7)
    assert cost_model.mixer_parameters(64, sizes, 7, channels=1) == model.count_params()


def test_core_days_are_the_papers_where_the_utilisation_is_that_of_half_its_rows():
    rows = cost_model.table_3_core_days()
    assert len(rows) == 12
    ratio = {(row.trained_on, row.model, row.epochs): row.computed / row.published for row in rows}
    assert statistics.median(ratio.values()) == pytest.approx(1, abs=0.02)
    large = [value for (_, model, _), value in ratio.items() if model in ("Mixer-B/16", "Mixer-L/16", "Mixer-H/14")]
    small = [value for (_, model, _), value in ratio.items() if model[6] == "S" or model.endswith("/32")]
    assert (len(large), len(small)) == (8, 4)
    assert 0.85 < min(large) < max(large) < 1.35
    assert 0.34 < min(small) < max(small) < 0.53


@settings(max_examples=50, deadline=None)
@given(st.floats(-3, 3), st.floats(0.1, 100), st.lists(st.integers(1, 1000), min_size=2, max_size=8, unique=True))
def test_the_slope_of_a_power_is_its_exponent(exponent, factor, x):
    assert cost_model.log_log_slope(x, [factor * v**exponent for v in x]) == pytest.approx(exponent, abs=1e-6)


@pytest.mark.parametrize(("x", "y"), [([1], [1]), ([2, 2], [1, 3]), ([1, 2], [0, 1]), ([1, 2], [1])])
def test_a_slope_that_does_not_exist_is_refused(x, y):
    with pytest.raises(ValueError, match="log_log_slope: needs positive values"):
        cost_model.log_log_slope(x, y)
