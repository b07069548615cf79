"""The step on a v3-32, 32 replicas on four hosts: whose rows it takes, and several steps in one execution under XLA."""

import types

import keras
import lower_step
import numpy as np
import pod
import pytest
import tensorflow as tf
from test_tpu_compile import build

from keras_mixer.training import loop

REPLICAS, BATCH_SIZE = 32, 4096  # 128 images of each replica
RATES = dict(dropout_rate=0.2, stochastic_depth_rate=0.3)


def batches(count, size):
    """(count, size, ...) images and labels."""
    random = np.random.default_rng(0)
    images = random.uniform(-1, 1, (count, size, 16, 16, 3)).astype("float32")
    return images, random.dirichlet(np.ones(10), (count, size)).astype("float32")


def small_trainer(batch_size, **execution):
    keras.utils.set_random_seed(0)
    model = build(**RATES)
    head = model.get_layer("head").kernel  # not zero, so that a gradient reaches all layers
    head.assign(np.random.default_rng(0).normal(size=head.shape, scale=0.3))
    return lower_step.make_trainer(model, batch_size, warmup_steps=1, total_steps=50, **execution)


# ---- 32 replicas ----


def of_replicas(trainer, replicas, images, labels):
    """Return the gradients of the replicas and their loss and top-1, summed, as the all-reduce sums them."""
    trainer.strategy = types.SimpleNamespace(num_replicas_in_sync=replicas)
    share = tf.function(lambda rows, number: trainer.gradients(rows, number)[::2], autograph=trainer.parts > 1)
    size = BATCH_SIZE // replicas
    total = None
    for i in range(replicas):
        own = slice(i * size, (i + 1) * size)
        found = tf.nest.flatten(share((images[own], labels[own]), tf.constant(i)))
        total = found if total is None else [a + b for a, b in zip(total, found, strict=True)]
    return [np.asarray(value) for value in total]


@pytest.mark.parametrize("parts", [1, 4])
def test_the_shares_of_32_replicas_sum_to_the_gradient_of_the_batch(parts):
    """With dropout and stochastic depth: a replica takes its rows of the batch's draws. Measured: 2.4e-7, 4.8e-7."""
    images, labels = (tf.constant(array[0]) for array in batches(1, BATCH_SIZE))
    whole = of_replicas(small_trainer(BATCH_SIZE), 1, images, labels)
    shared = of_replicas(small_trainer(BATCH_SIZE, gradient_accumulation_steps=parts), REPLICAS, images, labels)
    scale = max(np.abs(value).max() for value in whole[:-1])
    differences = [np.abs(a - b).max() for a, b in zip(whole, shared, strict=True)]
    print(f"{parts} parts: {max(differences):.1e}, largest gradient {scale:.1e}")
    assert scale > 1e-3
    assert max(differences) < 1e-6
    # The same images, each with the draws of another replica: the sum is another, so the equality can fail.
    other = of_replicas(small_trainer(BATCH_SIZE), REPLICAS, tf.roll(images, 128, 0), tf.roll(labels, 128, 0))
    assert max(np.abs(a - b).max() for a, b in zip(whole, other, strict=True)) > 1e-5


@pytest.mark.parametrize("parts", [1, 2, 32, 128])
def test_the_batch_of_the_paper_is_shared_by_32_replicas(parts):
    loop.check_batch(BATCH_SIZE, pod.PodInput(4, 8), parts)


@pytest.mark.parametrize(
    ("hosts", "batch_size", "parts", "message"),
    [
        (4, 4100, 1, "batch_size: 4100 cannot be shared evenly by 32 devices; use a multiple."),
        (3, 4096, 1, "batch_size: 4096 cannot be shared evenly by 24 devices; use a multiple."),
        (4, 16, 1, "batch_size: 16 cannot be shared evenly by 32 devices; use a multiple."),
        (
            *(4, 4096, 3),
            "gradient_accumulation_steps: the 128 images of a device cannot be divided into 3 equal parts; use a "
            "divisor, or a batch_size that is a multiple of 96.",
        ),
    ],
)
def test_what_32_replicas_cannot_share_is_one_sentence(hosts, batch_size, parts, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        loop.check_batch(batch_size, pod.PodInput(hosts, 8), parts)


# ---- Several steps in one execution ----


def trained(images, labels, **execution):
    """Return the rows and the state after all batches, by the function that `fit` calls."""
    trainer = small_trainer(images.shape[1], **execution)
    trainer.total_steps = len(images)
    iterator = iter(tf.data.Dataset.from_tensor_slices((images, labels)))
    rows = []
    while trainer.step < trainer.total_steps:
        trainer.begin_execution()
        trainer.end_execution(trainer.train_function(iterator))
        rows.append(trainer.rows)
    return np.concatenate(rows), trainer


UNDER_XLA = dict(gradient_accumulation_steps=2, jit_compile=True)


@pytest.fixture(scope="module")
def steps_one_by_one():
    """Seven steps of micro-batches, with dropout and stochastic depth, under XLA: batches, rows and state."""
    images, labels = batches(7, 8)
    rows, trainer = trained(images, labels, **UNDER_XLA)
    assert rows[-1, 0] < rows[0, 0]
    return images, labels, rows, trainer.state()


def test_five_steps_in_one_execution_are_five_steps_under_xla(steps_one_by_one):
    """Bit for bit, the last execution shorter."""
    images, labels, rows, state = steps_one_by_one
    rows_of_five, trainer = trained(images, labels, steps_per_execution=5, **UNDER_XLA)
    np.testing.assert_array_equal(rows_of_five, rows)
    for name, value in trainer.state().items():
        np.testing.assert_array_equal(value, state[name], err_msg=name)


def test_an_execution_calls_no_python_of_the_host():
    """All its steps are one loop of the graph, which takes each batch from the iterator itself."""
    images, labels = batches(2, 8)
    _, trainer = trained(images, labels, steps_per_execution=5, jit_compile=False)
    iterator = iter(tf.data.Dataset.from_tensor_slices((images, labels)))
    function = trainer._steps.get_concrete_function(iterator, tf.constant(5), tf.constant(0.0))
    graph = function.graph.as_graph_def(add_shapes=True)
    assert pod.host_python(graph) == []
    loops = [node for node in graph.node if node.op in ("While", "StatelessWhile")]
    assert len(loops) == 1
    (body,) = [f for f in graph.library.function if f.signature.name == loops[0].attr["body"].func.name]
    assert [node.op for node in body.node_def].count("IteratorGetNext") == 1


def test_steps_compiled_as_one_program_are_the_same_steps(steps_one_by_one):
    """The loop itself under XLA, as `lower_step.lower` gives it to the compiler of a TPU."""
    images, labels, rows, state = steps_one_by_one
    trainer = small_trainer(8, gradient_accumulation_steps=2)
    found = lower_step.steps_function(trainer, len(images))(*map(tf.constant, (images, labels, 0.0)))
    np.testing.assert_allclose(found, rows, rtol=0, atol=1e-5)
    for name, value in trainer.state().items():
        np.testing.assert_allclose(value, state[name], rtol=0, atol=1e-5, err_msg=name)
