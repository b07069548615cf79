"""Permutations of pixels: what they do to images, and that a Mixer learns the same from permuted patches and pixels."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_mixer
from keras_mixer.data import opening, permutations, pipeline
from keras_mixer.data.augment_settings import Augmentation
from keras_mixer.weights import mixer_variables

SIZES = dict(patch_size=4, num_blocks=4, hidden_dim=64, tokens_mlp_dim=32, channels_mlp_dim=128)
SIDE, STEPS = 16, 12


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**31 - 1))
@settings(max_examples=40, deadline=None)
def test_every_order_has_each_pixel_once(rows, columns, patch, seed):
    for kind in permutations.KINDS:
        order = permutations.draw_order(kind, (rows * patch, columns * patch), patch, seed)
        assert sorted(order) == list(range(rows * columns * patch**2))
        again = permutations.draw_order(kind, (rows * patch, columns * patch), patch, seed)
        np.testing.assert_array_equal(order, again)


def _patches(image, patch):
    rows, columns = image.shape[0] // patch, image.shape[1] // patch
    corners = [(r * patch, c * patch) for r in range(rows) for c in range(columns)]
    return np.stack([image[r : r + patch, c : c + patch].reshape(patch * patch, -1) for r, c in corners])


def test_patches_and_pixels_move_patches_whole_and_all_their_pixels_alike():
    image = np.random.default_rng(0).normal(size=(6, 9, 3))
    patches, pixels = permutations.draw_patch_orders((6, 9), 3, seed=5)
    order = permutations.draw_order("patches_and_pixels", (6, 9), 3, seed=5)
    moved = permutations.permute(image, order)
    np.testing.assert_array_equal(_patches(moved, 3), _patches(image, 3)[patches][:, pixels])
    assert patches.tolist() != sorted(patches)
    assert pixels.tolist() != sorted(pixels)


def test_a_global_order_takes_patches_apart():
    image = np.arange(64).reshape(8, 8, 1)
    moved = permutations.permute(image, permutations.draw_order("global", 8, 4, seed=0))
    sets = [{*patch.ravel().tolist()} for patch in _patches(image, 4)]
    assert all({*patch.ravel().tolist()} not in sets for patch in _patches(moved, 4))


def test_none_changes_nothing():
    order = permutations.draw_order("none", (4, 6), 2, seed=3)
    image = np.random.default_rng(0).normal(size=(4, 6, 3))
    np.testing.assert_array_equal(permutations.permute(image, order), image)


def test_the_numbers_are_those_that_models_were_trained_with():
    assert permutations.draw_order("patches_and_pixels", 4, 2, 0).tolist()[:8] == [1, 4, 9, 12, 0, 5, 8, 13]
    assert permutations.draw_order("global", 16, 4, 1).tolist()[:6] == [93, 51, 221, 145, 92, 77]


@pytest.mark.parametrize("shape", [(8, 12, 3), (5, 8, 12, 3), (2, 5, 8, 12, 1)])
def test_numpy_and_tensorflow_give_the_same(shape):
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    order = permutations.draw_order("global", (8, 12), 4, seed=1)
    ours = permutations.permute(images, order)
    np.testing.assert_array_equal(permutations.permute(tf.constant(images), order), ours)
    assert ours.dtype == np.uint8
    inverse = np.argsort(order)
    np.testing.assert_array_equal(permutations.permute(ours, inverse), images)


def test_batches_of_both_pipelines_are_permuted_last():
    source = opening.open_source("digits", "test[:40]", training=False)
    order = permutations.draw_order("global", SIDE, 4, seed=2)
    for batches in (
        pipeline.train_batches(
            source, batch_size=16, image_size=SIDE, seed=0, augmentation=Augmentation(mixup_alpha=0.2)
        ).take(3),
        pipeline.eval_batches(source, batch_size=16, image_size=SIDE),
    ):
        permuted = permutations.permute_batches(batches, "global", SIDE, 4, 2)
        assert permuted.element_spec == batches.element_spec
        for (images, *rest), (moved, *same) in zip(batches, permuted, strict=True):
            np.testing.assert_array_equal(moved, permutations.permute(images.numpy(), order))
            assert all((a.numpy() == b.numpy()).all() for a, b in zip(rest, same, strict=True))
        assert permutations.permute_batches(batches, "none", SIDE, 4, 2) is batches


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: permutations.draw_order("patch", 8, 4, 0), "permutation: must be one of none, patches_and_pixels, gl"),
        (
            lambda: permutations.draw_order("global", 8, 4, -1),
            "permutation_seed: must be at least 0 and below 2\\*\\*31",
        ),
        (lambda: permutations.draw_order("patches_and_pixels", (8, 9), 4, 0), "image_size: 8 x 9 pixels cannot be cut"),
        (
            lambda: permutations.permute(np.zeros((4, 4, 3)), [1, 0]),
            "order: is for 2 pixels, but the images have 4 x 4",
        ),
        (lambda: permutations.order_of_patches([0, 0, 1, 2], None, 4, 2), "patches: must hold each of 0 to 3 once"),
        (lambda: permutations.order_of_patches(None, [0, 1], 4, 2), "pixels: must hold each of 0 to 3 once"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def permute_weights(arrays, patches, pixels):
    """Weights that give on permuted images what `arrays` give on the images (docs/results/permutations.md)."""
    changed = {name: arrays[name] for name in arrays}
    kernel = changed["stem/kernel"]  # (P, P, 3, C)
    if pixels is not None:
        changed["stem/kernel"] = kernel.reshape(-1, *kernel.shape[2:])[pixels].reshape(kernel.shape)
    for name in changed if patches is not None else ():
        if "/token_mixing/" in name and not name.endswith("Dense_0/bias"):
            axis = 0 if name.endswith("Dense_0/kernel") else -1  # (S, D), and (D, S) or (S,)
            changed[name] = np.take(changed[name], patches, axis)
    return changed


def test_permuted_weights_give_the_golden_outputs_on_permuted_images(golden, tmp_path):
    model, images = tiny.build(), keras_mixer.preprocess_input(golden["images"])
    side, patch = images.shape[1], tiny.SIZES["patch_size"]
    patches, pixels = permutations.draw_patch_orders(side, patch, seed=1)
    with np.load(tiny.write_checkpoint(golden, tmp_path / "golden.npz")) as arrays:
        keras_mixer.load_checkpoint(model, permute_weights(arrays, patches, pixels))
    permuted = permutations.permute(images, permutations.draw_order("patches_and_pixels", side, patch, seed=1))
    difference, without = (
        np.abs(keras.ops.convert_to_numpy(model(x)) - golden["out/logits"]).max() for x in (permuted, images)
    )
    assert difference < 1e-5  # measured 3.3e-7
    assert without > 0.1


# ---- Training: the same but for rounding ----


class Trainer:
    """A Mixer and its optimiser that start anew for each training, so that the step is compiled once."""

    def __init__(self):
        keras.utils.set_random_seed(1)
        self.model = keras_mixer.MLPMixer(**SIZES, input_shape=(SIDE, SIDE, 3), classes=10, classifier_activation=None)
        head = self.model.get_layer("head").kernel
        head.assign(keras.random.normal(head.shape, stddev=0.05, seed=3))  # from zero, it alone would learn at first
        self.variables = mixer_variables.mixer_variables(self.model)
        self.arrays = self.weights()
        optimizer = keras.optimizers.AdamW(5e-3, weight_decay=0.1, global_clipnorm=1.0)
        optimizer.build(self.model.trainable_variables)
        self.model.compile(optimizer, keras.losses.CategoricalCrossentropy(from_logits=True), jit_compile=False)
        self.fresh = [v.numpy() for v in optimizer.variables]
        source = opening.open_source("digits", training=True)
        batches = pipeline.train_batches(
            source, batch_size=64, image_size=SIDE, seed=0, augmentation=Augmentation(mixup_alpha=0.2)
        )
        self.batches = [(images.numpy(), labels.numpy()) for images, labels in batches.take(STEPS)]
        self.logits = tf.function(self.model)

    def weights(self):
        return {name: keras.ops.convert_to_numpy(v).copy() for name, v in self.variables.items()}

    def train(self, arrays, order):
        """Return the first batch's logits before training, the loss of every step, and the weights at the end."""
        keras_mixer.load_checkpoint(self.model, arrays)
        for variable, value in zip(self.model.optimizer.variables, self.fresh, strict=True):
            variable.assign(value)
        batches = [(permutations.permute(images, order), labels) for images, labels in self.batches]
        logits = self.logits(batches[0][0]).numpy()
        losses = []
        for images, labels in batches:
            self.model.reset_metrics()
            losses.append(float(self.model.train_on_batch(images, labels)))
        return logits, np.array(losses), self.weights()


@pytest.fixture(scope="module")
def trainer():
    return Trainer()


@pytest.fixture(scope="module")
def baseline(trainer):
    return trainer.train(trainer.arrays, permutations.draw_order("none", SIDE, 4, 0))


def _differences(found, expected):
    weights = max(np.abs(found[2][name] - expected[2][name]).max() for name in expected[2])
    return np.abs(found[0] - expected[0]).max(), np.abs(found[1] - expected[1]).max(), weights


# Largest differences measured on x86-64 with oneDNN: initial logits, losses of 12 steps, final weights. The sums are
# those of the baseline in another order, and AdamW divides small gradients by themselves.
#   patches             1.8e-7, 1.2e-7, 2.8e-5
#   pixels              2.1e-7, 2.4e-7, 3.1e-5
#   patches and pixels  1.9e-7, 1.2e-7, 3.8e-5
@pytest.mark.parametrize("which", ["patches", "pixels", "patches and pixels"])
def test_training_on_permuted_images_from_permuted_weights_is_the_same_training(trainer, baseline, which):
    patches, pixels = permutations.draw_patch_orders(SIDE, 4, seed=0)
    patches, pixels = (patches if "patches" in which else None), (pixels if "pixels" in which else None)
    order = permutations.order_of_patches(patches, pixels, SIDE, 4)
    found = trainer.train(permute_weights(trainer.arrays, patches, pixels), order)
    expected = *baseline[:2], permute_weights(baseline[2], patches, pixels)
    logits, losses, weights = _differences(found, expected)
    assert logits < 2e-6
    assert losses < 2e-6
    assert weights < 3e-4
    assert max(np.abs(expected[2][name] - baseline[2][name]).max() for name in expected[2]) > 0.1  # moved indeed


def test_without_the_permuted_weights_or_globally_permuted_it_is_another_training(trainer, baseline):
    patches, pixels = permutations.draw_patch_orders(SIDE, 4, seed=0)
    assert baseline[1][-1] < baseline[1][0] - 0.1
    for kind, arrays in (
        ("patches_and_pixels", trainer.arrays),
        ("global", trainer.arrays),
        ("global", permute_weights(trainer.arrays, patches, pixels)),
    ):
        found = trainer.train(arrays, permutations.draw_order(kind, SIDE, 4, seed=0))
        logits, losses, _ = _differences(found, baseline)
        # measured: at least 0.31 and 0.17
        assert logits > 0.05
        assert losses > 0.005
