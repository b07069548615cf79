"""Time the kinds of work in a training step of S/16, batch 16, in bfloat16: docs/results/model_speed.md.

    python experiments/bfloat16_step.py

Milliseconds of one core, as charged to the process, so that other programs disturb little. Each framework has a process
of its own; without torch its column stays empty.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time

from keras_mixer.benchmark.markdown import table

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1"}

BATCH, BLOCKS, TOKENS, WIDTH = 16, 8, 196, 512
ROWS, COLUMNS = BATCH * TOKENS, BATCH * WIDTH
PRODUCTS = ((COLUMNS, TOKENS, 256), (COLUMNS, 256, TOKENS), (ROWS, WIDTH, 2048), (ROWS, 2048, WIDTH))
HIDDEN = ((COLUMNS, 256), (ROWS, 2048))
TABLE = (ROWS, WIDTH)


def tensorflow_calls():
    """Return kind -> the (function, arguments) of a block."""
    import keras
    import tensorflow as tf

    from keras_mixer import layers
    from keras_mixer.one_pass import one_pass

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    draw = lambda *shape, dtype="bfloat16": tf.cast(tf.random.normal(shape), dtype)
    norm = keras.layers.LayerNormalization(epsilon=layers.LAYER_NORM_EPSILON, dtype="mixed_bfloat16")
    norm.build(TABLE)
    weights = [variable.value for variable in norm.trainable_variables]

    def both_ways(function, *weights):
        def run(x, upstream):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = function(x)
            return tape.gradient(y, [x, *weights], upstream)

        return tf.function(run)

    linear = tf.function(lambda x, w, b, d: tf.nn.bias_add(tf.matmul(x, w), b))
    slopes = tf.function(lambda x, w, b, d: (tf.matmul(d, w, transpose_b=True), tf.matmul(x, d, transpose_a=True)))
    column_sums = tf.function(lambda x, w, b, d: tf.raw_ops.BiasAddGrad(out_backprop=d))
    cast = tf.function(lambda w, g: (tf.cast(w, "bfloat16"), tf.cast(g, "float32")))
    descend = tf.function(lambda w, g: w.assign_sub(1e-3 * g))
    dense = [(draw(m, k), draw(k, n), draw(n), draw(m, n)) for m, k, n in PRODUCTS]
    hidden = [(draw(*shape), draw(*shape)) for shape in HIDDEN]
    kernels = [(tf.Variable(draw(k, n, dtype="float32")), draw(k, n)) for _, k, n in PRODUCTS]
    return {
        "products and biases, forward": [(linear, some) for some in dense],
        "products, backward": [(slopes, some) for some in dense],
        "gradients of biases": [(column_sums, some) for some in dense],
        "GELU, before": [(both_ways(layers.gelu), some) for some in hidden],
        "GELU in one pass, which training uses": [(both_ways(one_pass(layers.gelu)), some) for some in hidden],
        "LayerNorm": [(both_ways(norm, *weights), (draw(*TABLE), draw(*TABLE)))] * 2,
        "residuals": [(tf.function(lambda x, y: x + y), (draw(*TABLE), draw(*TABLE)))] * 4,
        "casts of kernels and of their gradients": [(cast, some) for some in kernels],
        "gradient descent": [(descend, (w, tf.cast(g, "float32"))) for w, g in kernels],
    }


def torch_calls():
    """The same as timm's Mixer does it: an exact GELU, and tables in float32 between the blocks."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(1)
    draw = lambda *shape: torch.randn(*shape).bfloat16()
    norm = torch.nn.LayerNorm(WIDTH, eps=1e-6)

    def both_ways(function, *weights):
        return lambda x, upstream: torch.autograd.grad(function(x.requires_grad_()), [x, *weights], upstream)

    dense = [(draw(m, k), draw(n, k), draw(n), draw(m, n)) for m, k, n in PRODUCTS]
    hidden = [(draw(*shape), draw(*shape)) for shape in HIDDEN]
    kernels = [(torch.randn(n, k), draw(n, k)) for _, k, n in PRODUCTS]
    return {
        "products and biases, forward": [(lambda x, w, b, d: functional.linear(x, w, b), some) for some in dense],
        "products, backward": [(lambda x, w, b, d: (d @ w, d.t() @ x), some) for some in dense],
        "gradients of biases": [(lambda x, w, b, d: d.sum(0), some) for some in dense],
        "GELU, before": [(both_ways(functional.gelu), some) for some in hidden],
        "LayerNorm": [(both_ways(norm, *norm.parameters()), (torch.randn(TABLE), torch.randn(TABLE)))] * 2,
        "residuals": [(lambda x, y: x + y, (torch.randn(TABLE), draw(*TABLE)))] * 4,
        "casts of kernels and of their gradients": [(lambda w, g: (w.bfloat16(), g.float()), some) for some in kernels],
        "gradient descent": [(lambda w, g: w.add_(g, alpha=-1e-3), (w, g.float())) for w, g in kernels],
    }


def measure(calls, rounds):
    """Return kind -> milliseconds of each round."""
    times = {kind: [] for kind in calls}
    for number in range(rounds + 1):
        for kind, pieces in calls.items():
            start = time.process_time()
            for function, arguments in pieces:
                function(*arguments)
            if number:  # the first round traces and compiles
                times[kind].append((time.process_time() - start) * 1e3 * BLOCKS)
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--framework", choices=CALLS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.framework:
        print(json.dumps(measure(CALLS[args.framework](), args.rounds)))
        return
    found = {}
    for framework in CALLS:
        found[framework] = {}
        if importlib.util.find_spec(framework):
            command = [sys.executable, __file__, f"--framework={framework}", f"--rounds={args.rounds}"]
            output = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
            found[framework] = json.loads(output.splitlines()[-1])
    rows = [(kind, *(shown(times.get(kind)) for times in found.values())) for kind in found["tensorflow"]]
    print(table(("kind of work, ms of one core", "TensorFlow", "torch"), rows))


def shown(values):
    """The median, and least to most; nothing where it was not measured."""
    return f"{statistics.median(values):,.0f}, {min(values):,.0f} to {max(values):,.0f}" if values else ""


CALLS = {"tensorflow": tensorflow_calls, "torch": torch_calls}

if __name__ == "__main__":
    main()
