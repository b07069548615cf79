"""Time five ways to write a token-mixing MLP, interleaved, in graph mode and XLA: docs/results/token_mixing.md.

    python experiments/token_mixing.py
    python experiments/token_mixing.py --threads=2 --dtype=bfloat16

Each number of threads is measured in a process of its own. In bold: the row that the layers use, and the least of a
column.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from keras_mixer.benchmark.markdown import table

B, S, C, D = 8, 196, 768, 384  # Mixer-B/16 at 224 px
USED = "**the same, on (B C, S)**"


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

    return {
        "transpose, Dense, Dense, transpose": transposed,
        USED: transposed_2d,
        "W^T X, the kernel transposed": weights_first,
        "W^T X, by `transpose_a`": weights_first_flag,
        "einsum": einsum,
    }


def measure(threads, rounds, dtype):
    """Return the milliseconds of every round, by formulation, way to run and what is run."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    x = tf.cast(tf.random.normal((B, S, C)), dtype)
    weights = [tf.Variable(tf.cast(tf.random.normal(shape) * 0.05, dtype)) for shape in ((S, D), (D,), (D, S), (S,))]
    functions = {}
    for name, forward in formulations(*weights).items():

        def train(x, forward=forward):
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = tf.reduce_sum(tf.square(forward(x)))
            return tape.gradient(loss, [x, *weights])

        for mode, jit in (("graph", False), ("XLA", True)):
            functions[name, mode, "forward"] = tf.function(forward, jit_compile=jit)
            functions[name, mode, "forward and backward"] = tf.function(train, jit_compile=jit)
    times = {key: [] for key in functions}
    for function in functions.values():
        function(x), function(x)  # trace, compile, warm up
    for _ in range(rounds):
        for key, function in functions.items():
            start = time.perf_counter()
            for _ in range(3):
                result = function(x)
            tf.reduce_sum(tf.nest.flatten(result)[-1]).numpy()
            times[key].append((time.perf_counter() - start) / 3 * 1e3)
    return [[*key, values] for key, values in times.items()]


def columns_of(rows, columns):
    """Return the cells of a table, the least median of each column in bold; a row is a dict of (column -> values)."""
    least = {column: min(statistics.median(row[column]) for row in rows.values()) for column in columns}
    for name, row in rows.items():
        cells = []
        for column in columns:
            middle = statistics.median(row[column])
            bold = "**" if middle == least[column] else ""
            cells.append(f"{bold}{middle:.1f}{bold} ({min(row[column]):.1f} to {max(row[column]):.1f})")
        yield (name, *cells)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.threads[0], args.rounds, args.dtype)))
        return
    rows = {}  # (what is run, formulation) -> column -> milliseconds
    for threads in args.threads:
        command = [sys.executable, __file__, "--one", f"--threads={threads}"]
        command += [f"--rounds={args.rounds}", f"--dtype={args.dtype}"]
        output = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
        for name, mode, what, values in json.loads(output.splitlines()[-1]):
            rows.setdefault((what, name), {})[f"{mode}, {threads} core{'s' * (threads > 1)}"] = values
    print(f"{args.dtype}, {args.rounds} rounds, ms: median (least to most)\n")
    modes = [f"{mode}, {threads} core{'s' * (threads > 1)}" for threads in args.threads for mode in ("graph", "XLA")]
    titles = {"forward": "forward", "forward and backward": "forward and backward"}
    if args.dtype != "float32":
        titles = {"forward": f"forward, {args.dtype}", "forward and backward": f"forward and backward, {args.dtype}"}
    for part, title in titles.items():
        of_part = {name: row for (what, name), row in rows.items() if what == part}
        print(table((title, *modes), columns_of(of_part, modes)))


if __name__ == "__main__":
    main()
