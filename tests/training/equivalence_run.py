"""Run several training set-ups for 20 steps and write their losses and weights, for `test_equivalence.py`.

python equivalence_run.py one|mirrored|multi_worker OUTPUT.npz SETUP ...
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import keras_mixer
from keras_mixer.data.augment_settings import Augmentation
from keras_mixer.data.mixing import Finish
from keras_mixer.training import ema, loop, losses, optimizers, schedules, step, strategies

STEPS, BATCH = 20, 8
# Everything at once: strong clipping, an average of the weights, micro-batches, several steps per execution, XLA,
# dropout and stochastic depth, mixup and CutMix.
ALL = dict(clip_norm=0.1, ema_decay=0.9, parts=2, steps_per_execution=3, xla=True, rate=0.2, mixing=True)
MIXING = {False: Augmentation("none"), True: Augmentation("none", mixup_alpha=0.5, cutmix_alpha=1.0)}
SETUPS = {
    "sgd": dict(kind="sgd"),
    "adamw": dict(kind="adamw"),
    "sgd_all": dict(kind="sgd", **ALL),
    "adamw_all": dict(kind="adamw", **ALL),
    "bfloat16": dict(kind="sgd", **ALL | dict(precision="mixed_bfloat16", xla=False)),
    "rematerialize": dict(kind="sgd", **ALL | dict(rate=0.0, stochastic_depth_rate=0.2, rematerialize=True)),
}


def fixed_by_the_loss(model):
    """Trainable variables, without the biases that token mixing adds.

    Such a bias is one number for all channels of a token, and every LayerNorm on the way takes it out again: its
    gradient is zero but for rounding, of which AdamW makes steps of the full rate, up or down, to no effect.
    """
    return [v for v in model.trainable_variables if not v.path.endswith("token_mixing/dense_1/bias")]


def batches(part, finish):
    """Bytes, as `pipeline.train_batches` gives them."""

    def batch(number):
        number = tf.cast(number, tf.int32)
        images = tf.random.stateless_uniform((BATCH, 16, 16, 3), [number, 0], 0, 256, tf.int32)
        labels = tf.random.stateless_uniform([BATCH], [number, 1], 0, 10, tf.int32)
        first, last = part[0] * BATCH // part[1], (part[0] + 1) * BATCH // part[1]
        rows = np.arange(first - finish.neighbours, last) % BATCH
        drawn = tf.repeat(finish.draw(7, number, (16, 16))[None], len(rows), axis=0)
        return tf.gather(tf.cast(images, tf.uint8), rows), tf.gather(tf.cast(labels, tf.int64), rows), drawn

    return tf.data.Dataset.range(10**6).map(batch)


def train(
    strategy,
    kind,
    clip_norm=1.0,
    ema_decay=None,
    parts=1,
    steps_per_execution=1,
    xla=False,
    rate=0.0,
    stochastic_depth_rate=None,
    precision="float32",
    rematerialize=False,
    mixing=False,
):
    """Train a small Mixer; return the statistics of each step, the weights and the averaged weights."""
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(precision)
    with strategy.scope():
        model = keras_mixer.MLPMixer(
            4,
            2,
            16,
            8,
            24,
            input_shape=(16, 16, 3),
            classes=10,
            classifier_activation=None,
            dropout_rate=rate,
            stochastic_depth_rate=rate if stochastic_depth_rate is None else stochastic_depth_rate,
            rematerialize=rematerialize,
        )
        optimizer = optimizers.make_optimizer(
            kind,
            schedules.WarmupDecay(1e-2, STEPS, 2),
            model,
            weight_decay=0.1 if kind == "adamw" else 0.0,
            clip_norm=clip_norm,
            ema_decay=ema_decay,
        )
    keras.config.set_dtype_policy("float32")
    trainer = loop.make_trainer(
        model,
        optimizer,
        losses.softmax_cross_entropy,
        strategy,
        BATCH,
        step.Execution(steps_per_execution, parts, xla),
        finish := Finish(MIXING[mixing], 10),
    )
    trainer.total_steps = STEPS
    rows, weights = [], []

    class Record(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            rows.append(self.model.rows)
            if self.model.step == STEPS:  # `fit` puts the average in their place when it ends
                weights.extend(np.array(v.numpy()).ravel() for v in fixed_by_the_loss(model))

    data = strategies.distribute(strategy, lambda part: batches(part, finish), BATCH, finish.neighbours)
    callbacks = [step.CountSteps(), Record()]
    trainer.fit(data, steps_per_epoch=trainer.executions, shuffle=False, verbose=0, callbacks=callbacks)
    averaged = []
    if ema_decay:
        with ema.averaged_weights(model, optimizer):
            averaged = [np.array(v.numpy()).ravel() for v in fixed_by_the_loss(model)]
    return np.concatenate(rows)[:, :3], np.concatenate(weights), np.concatenate([*averaged, np.zeros(1)])


def main(kind, output, *names):
    if kind == "one":
        strategy = strategies.make_strategy("one_device")
    else:
        strategy = strategies.make_strategy(kind, 2 if kind == "mirrored" else None)
        assert strategy.num_replicas_in_sync == 2, strategy
    results = {}
    for name in names:
        parts = zip(("rows", "weights", "averaged"), train(strategy, **SETUPS[name]), strict=True)
        results |= {f"{name}/{part}": value for part, value in parts}
    np.savez(output, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
