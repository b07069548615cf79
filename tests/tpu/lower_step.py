"""Lower the training step that `fit` runs, for one replica, to a StableHLO module, without running it.

python tests/tpu/lower_step.py step.mlirbc --model=b16 --batch_size=512 --gradient_accumulation_steps=4
$KERAS_MIXER_TPU_PYTHON tests/tpu/compile_for_tpu.py step.mlirbc --topology=v5e:1x1
"""

import argparse
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf

import keras_mixer
from keras_mixer.training import loop, losses, optimizers, schedules
from keras_mixer.training.step import STATISTICS, Execution, Ready

MODELS = {"b16": keras_mixer.MixerB16, "l16": keras_mixer.MixerL16}


def make_trainer(model, batch_size, total_steps=100_000, warmup_steps=10_000, prepare=None, **execution):
    """Return the trainer of the recipes, for one replica: softmax loss, AdamW and the paper's schedule."""
    schedule = schedules.WarmupDecay(1e-3, total_steps, warmup_steps)
    optimizer = optimizers.make_optimizer("adamw", schedule, model, weight_decay=0.1)
    strategy = tf.distribute.get_strategy()
    loss = losses.softmax_cross_entropy
    trainer = loop.make_trainer(
        model, optimizer, loss, strategy, batch_size, Execution(**execution), prepare or Ready()
    )
    trainer.make_train_function()
    return trainer


def step_function(trainer, jit_compile):
    """Return a function of one step: (*batch, stop) -> statistics, which assigns the trainer's variables."""

    def step(*arguments):
        return trainer.strategy.run(trainer.train_step, args=(arguments[:-1], arguments[-1]))

    return tf.function(step, jit_compile=jit_compile)


def steps_function(trainer, count):
    """Return a function of `count` steps in one XLA program: as `step_function`, of (count, B, ...) and a row each."""

    @tf.function(jit_compile=True)
    def steps(*arguments):
        *batches, stop = arguments
        rows = tf.TensorArray(tf.float32, count, element_shape=(len(STATISTICS),))
        for i in tf.range(count):
            rows = rows.write(i, trainer.strategy.run(trainer.train_step, args=(tuple(x[i] for x in batches), stop)))
        return rows.stack()

    return steps


def lower(trainer, steps=1, batch=None):
    """Return the bytes of the StableHLO module of a step, or of the loop of so many.

    Its arguments are the batches and then every variable that the step reads; its results the statistics and then every
    variable that it assigns: TensorFlow makes them so, and no wrapper is needed. `batch` are the `tf.TensorSpec` of
    images and labels, as the input pipeline has them; those that the model takes otherwise.
    """
    images = tf.TensorSpec((trainer.batch_size, *trainer.model.input_shape[1:]))
    labels = tf.TensorSpec((trainer.batch_size, trainer.model.output_shape[-1]))
    specs = [images, labels] if batch is None else list(batch)
    if steps > 1:
        specs = [tf.TensorSpec((steps, *spec.shape), spec.dtype) for spec in specs]
    step = step_function(trainer, jit_compile=True) if steps == 1 else steps_function(trainer, steps)
    ir = step.experimental_get_compiler_ir(*specs, tf.TensorSpec(()))
    return ir(stage="stablehlo_serialized")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", type=pathlib.Path, help="the file to write")
    parser.add_argument("--model", choices=MODELS, default="b16")
    parser.add_argument("--batch_size", type=int, default=512, help="images of one replica")
    parser.add_argument("--gradient_accumulation_steps", type=int, default=1)
    parser.add_argument("--steps", type=int, default=1, help="steps of the loop that is lowered")
    parser.add_argument("--classes", type=int, default=21_843)
    parser.add_argument("--precision", choices=("mixed_bfloat16", "float32"), default="mixed_bfloat16")
    parser.add_argument("--rematerialize", action="store_true")
    args = parser.parse_args()
    keras.config.set_dtype_policy(args.precision)
    model = MODELS[args.model](
        classes=args.classes,
        classifier_activation=None,
        stochastic_depth_rate=0.1,
        rematerialize=args.rematerialize,
    )
    parts = args.gradient_accumulation_steps
    trainer = make_trainer(model, args.batch_size, gradient_accumulation_steps=parts)
    args.module.write_bytes(lower(trainer, args.steps))


if __name__ == "__main__":
    main()
