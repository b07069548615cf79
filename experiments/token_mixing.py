"""Time five ways to write a token-mixing MLP, interleaved, in graph mode and XLA: docs/results/token_mixing.md.

python experiments/token_mixing.py --threads=2
python experiments/token_mixing.py --threads=2 --dtype=bfloat16
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

B, S, C, D = 8, 196, 768, 384  # Mixer-B/16 at 224 px


def gelu(x):
    return tf.nn.gelu(x, approximate=True)


def formulations(w0, b0, w1, b1):
    """Name -> function of x (B, S, C)."""

    def transposed(x):
        y = gelu(tf.matmul(tf.transpose(x, (0, 2, 1)), w0) + b0)  # (B, C, D)
        return tf.transpose(tf.matmul(y, w1) + b1, (0, 2, 1))

    def transposed_2d(x):
        y = tf.reshape(tf.transpose(x, (0, 2, 1)), (-1, S))  # (B C, S)
        y = tf.nn.bias_add(tf.matmul(gelu(tf.nn.bias_add(tf.matmul(y, w0), b0)), w1), b1)
        return tf.transpose(tf.reshape(y, (-1, C, S)), (0, 2, 1))

    def weights_first(x):
        y = gelu(tf.matmul(tf.transpose(w0), x) + b0[:, None])  # (D, S) (B, S, C) -> (B, D, C)
        return tf.matmul(tf.transpose(w1), y) + b1[:, None]

    def weights_first_flag(x):
        y = gelu(tf.matmul(w0, x, transpose_a=True) + b0[:, None])
        return tf.matmul(w1, y, transpose_a=True) + b1[:, None]

    def einsum(x):
        y = gelu(tf.einsum("bsc,sd->bdc", x, w0) + b0[:, None])
        return tf.einsum("bdc,ds->bsc", y, w1) + b1[:, None]

    return {f.__name__: f for f in (transposed, transposed_2d, weights_first, weights_first_flag, einsum)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    args = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(args.threads)

    x = tf.cast(tf.random.normal((B, S, C)), args.dtype)
    weights = [
        tf.Variable(tf.cast(tf.random.normal(shape) * 0.05, args.dtype)) for shape in ((S, D), (D,), (D, S), (S,))
    ]
    functions = {}
    for name, forward in formulations(*weights).items():

        def train(x, forward=forward):
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = tf.reduce_sum(tf.square(forward(x)))
            return tape.gradient(loss, [x, *weights])

        for mode, jit in (("graph", False), ("xla", True)):
            functions[name, mode, "forward"] = tf.function(forward, jit_compile=jit)
            functions[name, mode, "forward and backward"] = tf.function(train, jit_compile=jit)
    times = {key: [] for key in functions}
    for function in functions.values():
        function(x), function(x)  # trace, compile, warm up
    for _ in range(args.rounds):
        for key, function in functions.items():
            start = time.perf_counter()
            for _ in range(3):
                result = function(x)
            tf.reduce_sum(tf.nest.flatten(result)[-1]).numpy()
            times[key].append((time.perf_counter() - start) / 3 * 1e3)
    print(f"{args.dtype}, {args.threads} threads, {args.rounds} rounds, median ms (least to most)")
    for key, values in times.items():
        print(f"{' '.join(key):48s} {statistics.median(values):6.1f} ({min(values):.1f} to {max(values):.1f})")


if __name__ == "__main__":
    main()
