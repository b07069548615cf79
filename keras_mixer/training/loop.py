"""One call of `model.fit` from the step where the last run stopped to the last step."""

import keras
import tensorflow as tf

from keras_mixer.training import callbacks, checkpoints


def compile_model(model, optimizer, loss, strategy, precision="float32", jit_compile=None):
    """Compile `model` for training as the recipes do.

    Args:
        model: images in [-1, 1] -> logits.
        optimizer: see `optimizers.make_optimizer`.
        loss: (labels, logits) -> loss per image; its mean over the global batch is minimised.
        strategy: the `tf.distribute` strategy the model was built under.
        precision: "float32" or "mixed_bfloat16".
        jit_compile: whether XLA compiles the step; None for where it is known to be faster.
    """
    # XLA is the fastest in float32; on CPU it does not use the bfloat16 units, and with several replicas Keras 3
    # cannot compile a step that contains the all-reduce.
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    if jit_compile is None:
        jit_compile = strategy.num_replicas_in_sync == 1 and (precision == "float32" or on_gpu)
    with strategy.scope():
        # The share of images whose largest logit is at the largest label, also where labels are mixed.
        top1 = keras.metrics.CategoricalAccuracy(name="top1")
        model.compile(optimizer, loss=loss, metrics=[top1], jit_compile=jit_compile)
        optimizer.build(model.trainable_variables)
        model._symbolic_build(data_batch=_shapes(model))  # creates the metrics' variables, which a checkpoint holds


def _shapes(model):
    images = keras.KerasTensor((2, *model.input_shape[1:]), "float32")
    return images, keras.KerasTensor((2, model.output_shape[-1]), "float32")


def check_intervals(**steps):
    """Raise a ValueError that names the first interval which is not a positive number of steps."""
    for name, value in steps.items():
        if value < 1:
            raise ValueError(f"{name}: must be a positive number of steps, got {value}.")


def train(
    model,
    batches,
    workdir,
    *,
    batch_size,
    total_steps,
    strategy,
    evaluate=None,
    checkpoint_steps=1000,
    log_steps=100,
    eval_steps=1000,
):
    """Train a compiled model to `total_steps`, from the newest checkpoint in the workdir if it has one.

    Args:
        model: compiled by `compile_model`.
        batches: start_step -> dataset of (images float32 in [-1, 1], labels (B, K)).
        workdir: a folder from `workdir.open_workdir`.
        batch_size: images in a global batch.
        total_steps: of the whole run.
        strategy: the `tf.distribute` strategy the model was built under.
        evaluate: () -> dict with top1, top5, loss.
        checkpoint_steps, log_steps, eval_steps: steps between two of each.

    Returns:
        dict of start_step; evaluation, the last one or None; and images_per_second and training_seconds of this
        process, without evaluation and the first step, None where nothing was timed.

    Raises:
        ValueError: for a non-positive number of steps, or where no checkpoint of the workdir can be used.
        NonFiniteLoss: naming the step; the last good state is on disk.
    """
    check_intervals(checkpoint_steps=checkpoint_steps, log_steps=log_steps, eval_steps=eval_steps)
    folder = workdir / "checkpoints"
    start = checkpoints.restore_newest(folder, model)
    if start >= total_steps:
        return {"start_step": start, "evaluation": None, "images_per_second": None, "training_seconds": None}
    if start == 0:
        checkpoints.save_state(folder, model, 0)  # so that a NaN in the first steps also leaves a good state
    log = callbacks.Log(start, total_steps, workdir, batch_size, log_steps, eval_steps, evaluate)
    data = strategy.experimental_distribute_dataset(batches(start))
    try:
        # One call for the whole run: Keras overwrites weights with their average at each end of a `fit`.
        model.fit(
            data,
            steps_per_epoch=total_steps - start,
            shuffle=False,  # the batches come in their order
            verbose=0,
            callbacks=[
                callbacks.StopOnNonFinite(start, total_steps),
                log,
                callbacks.Checkpoint(start, total_steps, folder, checkpoint_steps),
            ],
        )
    finally:
        log.close()
    return {
        "start_step": start,
        "evaluation": log.evaluation,
        "images_per_second": round(log.images_per_second, 1) if log.seconds else None,
        "training_seconds": round(log.seconds, 1) if log.seconds else None,
    }
