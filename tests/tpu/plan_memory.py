"""Compile a whole training step for a TPU of several chips that is not there, and print the memory of one chip.

    $KERAS_MIXER_TPU_PYTHON tests/tpu/plan_memory.py --model=b16 --batch_size=4096 --topology=v5e:2x4

Runs in an environment with jax[tpu] and keras, and without TensorFlow (docs/results/many_devices.md). It is the same
Mixer, loss and AdamW as in training, on Keras's JAX backend, since only JAX can compile for several absent chips: data
parallel, every chip holding all weights and optimiser slots and its share of the batch. Prints a line of JSON.
"""

import argparse
import json
import os
import time

os.environ["KERAS_BACKEND"] = "jax"

import compile_for_tpu  # first of what imports jax: it sets the environment of libtpu

# isort: split
import jax
import keras
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import keras_mixer
from keras_mixer.training import losses, optimizers, schedules

MODELS = {"b16": keras_mixer.MixerB16, "l16": keras_mixer.MixerL16}


def make_step(model, optimizer):
    """Return a pure function of the training step: (state, images, labels) -> (state, loss)."""

    def mean_loss(trainable, frozen, images, labels):
        logits, frozen = model.stateless_call(trainable, frozen, images, training=True)
        return losses.softmax_cross_entropy(labels, logits).mean(), frozen

    def step(state, images, labels):
        trainable, frozen, slots = state
        gradient = jax.value_and_grad(mean_loss, has_aux=True)
        (loss, frozen), grads = gradient(trainable, frozen, images, labels)
        trainable, slots = optimizer.stateless_apply(slots, grads, trainable)
        return (trainable, frozen, slots), loss

    return step


def compile_step(model, batch_size, devices):
    """Compile the step of a global batch for all `devices`; return the executable."""
    optimizer = optimizers.make_optimizer(
        "adamw", schedules.WarmupDecay(1e-3, 100_000, 10_000), model, weight_decay=0.1
    )
    optimizer.build(model.trainable_variables)
    mesh = Mesh(devices, ("replica",))
    whole, share = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("replica"))

    def described(variables):
        return [jax.ShapeDtypeStruct(v.shape, v.value.dtype, sharding=whole) for v in variables]

    groups = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
    images = jax.ShapeDtypeStruct((batch_size, *model.input_shape[1:]), "float32", sharding=share)
    labels = jax.ShapeDtypeStruct((batch_size, model.output_shape[-1]), "float32", sharding=share)
    # The new state takes the place of the old one, as assigned variables do.
    step = jax.jit(make_step(model, optimizer), donate_argnums=0, out_shardings=whole)
    return step.lower(tuple(described(group) for group in groups), images, labels).compile()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="b16")
    parser.add_argument("--batch_size", type=int, default=4096, help="images in the global batch")
    parser.add_argument("--topology", default="v5e:2x4", help="v5e:2x4, v6e:2x4, v3:2x2 (8 cores) and so on")
    parser.add_argument("--classes", type=int, default=21_843)
    parser.add_argument("--precision", choices=("mixed_bfloat16", "float32"), default="mixed_bfloat16")
    parser.add_argument("--rematerialize", action="store_true")
    args = parser.parse_args()
    devices = compile_for_tpu.describe(args.topology)
    keras.config.set_dtype_policy(args.precision)
    model = MODELS[args.model](
        classes=args.classes,
        classifier_activation=None,
        stochastic_depth_rate=0.1,
        rematerialize=args.rematerialize,
    )
    result = vars(args) | {"device_kind": devices[0].device_kind, "devices": len(devices)}
    start = time.perf_counter()
    try:
        stats = compile_step(model, args.batch_size, devices).memory_analysis()
        result["memory_bytes"] = compile_for_tpu.memory(stats)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        result["does_not_fit"] = str(error).split("\n")[0]
    print(json.dumps(result | {"compile_seconds": round(time.perf_counter() - start, 1)}))


if __name__ == "__main__":
    main()
