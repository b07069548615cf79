"""Bytes that each of several machines reads of records, and seconds to start in the middle; docs/results/records.md.

    python experiments/records_per_machine.py
    python experiments/records_per_machine.py --bucket    # in a bucket on loopback; needs the extra test

The records hold random bytes of the size of ImageNet's pictures (110 kB), which are read and not decoded. Each number
is of a process of its own: what the kernel, or the bucket's server, says that it read for the same steps.
"""

import argparse
import contextlib
import hashlib
import itertools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from keras_mixer.benchmark.markdown import table

ROOT = pathlib.Path(__file__).resolve().parent.parent
NUM_IMAGES, IMAGE_BYTES, BATCH_SIZE, STEPS = 16_384, 110_000, 512, 8
KINDS = {"version 1": 1, "64 streams": 64}


def write(folder: pathlib.Path, num_streams: int, version: int) -> None:
    """Write records of random bytes, as `record_writing.write_records` would, 64 shards of them."""
    import numpy as np
    import tensorflow as tf

    from keras_mixer.data import record_layout, record_writing, records

    rng, shards = np.random.default_rng(0), []
    for k in range(64):
        path, offset, blocks = folder / f"train-{k:05d}-of-00064.tfrecord", 0, []
        with tf.io.TFRecordWriter(str(path)) as writer:
            for i in range(NUM_IMAGES // 64):
                record = record_layout.example_of(rng.bytes(IMAGE_BYTES), (k + i) % 10, f"{k}/{i}")
                blocks += [offset] if i % 16 == 0 else []
                writer.write(record)
                offset += len(record) + record_layout.FRAME
        facts = {"examples": NUM_IMAGES // 64, "bytes": offset, "sha256": "", "blocks": blocks}
        shards.append({"file": path.name, **facts})
    manifest = {"format": records.FORMAT, "version": version, "photographs": True, "class_names": list("abcdefghij")}
    manifest["splits"] = {"train": {"num_examples": NUM_IMAGES, "streams": num_streams, "shards": shards}}
    record_writing.write_manifest(folder, manifest)


def read(folder: str, part: tuple[int, int], start_step: int) -> dict[str, Any]:
    """Read the rows of a part of some batches; return bytes, seconds to the first batch and a hash of what was read."""
    from keras_mixer.cli import quiet_tensorflow  # noqa: F401 - as the recipes: what to ask of a bucket at a time
    from keras_mixer.data import opening
    from keras_mixer.data.source import part_rows

    source = opening.open_source(folder, "train", training=True)
    list(source.records(None, 0).take(1))  # TensorFlow's own start
    before, began, firsts, digest = bytes_read(), time.perf_counter(), [], []
    rows, _ = part_rows(BATCH_SIZE, part)
    data = source.records(0, start_step * BATCH_SIZE, rows).batch(len(rows.own)).take(STEPS)
    for batch in data.as_numpy_iterator():
        firsts.append(time.perf_counter() - began)
        digest += [hashlib.sha256(record).hexdigest()[:8] for record in batch]
    return {"bytes": bytes_read() - before, "first": firsts[0], "records": digest}


def bytes_read() -> int:
    """Bytes that this process has read from files so far."""
    facts = pathlib.Path("/proc/self/io").read_text().split()
    return int(facts[facts.index("rchar:") + 1])


def measure(folder: str, index: int, count: int, start_step: int, env: dict[str, str]) -> dict[str, Any]:
    """Return what `read` returns, from a process of its own."""
    command = [sys.executable, __file__, "--read", folder, str(index), str(count), str(start_step)]
    return json.loads(
        subprocess.run(command, env=env, capture_output=True, check=True, text=True).stdout.splitlines()[-1]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bucket", action="store_true", help="read from a bucket on loopback")
    parser.add_argument("--repeats", type=int, default=3, help="of each time, interleaved")
    parser.add_argument("--read", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.read:
        folder, index, count, start_step = args.read
        print(json.dumps(read(folder, (int(index), int(count)), int(start_step))))
        return
    env, needed = dict(os.environ), BATCH_SIZE * STEPS * (IMAGE_BYTES + 106)
    with contextlib.ExitStack() as stack:
        folders, served = {}, None
        temporary = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if args.bucket:
            sys.path.append(str(ROOT / "tests"))
            import bucket_server

            served = stack.enter_context(bucket_server.serve(temporary))
            served.create("data")
            env |= served.environment
        for kind, num_streams in KINDS.items():
            folder = temporary / kind.replace(" ", "_")
            folder.mkdir()
            write(folder, num_streams, 1 if num_streams == 1 else 2)
            folders[kind] = str(folder)
            if served is not None:
                folders[kind] = f"gs://data/{folder.name}"
                for path in folder.iterdir():
                    served.put("data", f"{folder.name}/{path.name}", path.read_bytes())
        report(folders, args.repeats, env, needed, served)


def report(folders: dict[str, str], repeats: int, env: dict[str, str], needed: int, served: Any) -> None:
    """Print a line for each kind of records, number of machines and start, and the table of them."""
    medians: dict[tuple[int, int], list[tuple[float, float]]] = {}
    middle = NUM_IMAGES // BATCH_SIZE // 2
    print(f"{STEPS} steps of {BATCH_SIZE} are {needed / 1e6:.0f} MB of records")
    for start_step in (0, middle):
        for count in (1, 2, 4):
            for kind, folder in folders.items():
                seen, firsts, amounts = [], [], []
                for index in range(count):
                    for _ in range(repeats if index == 0 else 1):
                        before = sum(served.bytes_read.values()) if served else 0
                        found = measure(folder, index, count, start_step, env)
                        amount = sum(served.bytes_read.values()) - before if served else found["bytes"]
                        firsts, amounts = [*firsts, found["first"]], [*amounts, amount]
                    seen.append(found["records"])
                share = BATCH_SIZE // count
                rows = [seen[i][step * share : (step + 1) * share] for step in range(STEPS) for i in range(count)]
                medians.setdefault((start_step, count), []).append(
                    (statistics.median(amounts) / 1e6, statistics.median(firsts))
                )
                print(
                    f"from step {start_step:3}  {count} machines  {kind:10}  {statistics.median(amounts) / 1e6:7.0f} MB"
                    f" each  first batch after {statistics.median(firsts):5.2f} s ({min(firsts):.2f} to "
                    f"{max(firsts):.2f})  batches {hash_of(rows)}",
                    flush=True,
                )
    print("\n" + table_of(medians, middle, in_bucket=served is not None))


def table_of(medians: dict[tuple[int, int], list[tuple[float, float]]], middle: int, in_bucket: bool) -> str:
    """Return the table: before is version 1, after 64 streams; megabytes of one machine, seconds to its first batch."""
    if in_bucket:
        rows = [(n, *(f"{size:,.0f}" for size, _ in pairs)) for (step, n), pairs in medians.items() if not step]
        return table(("machines, from step 0", "before: MB", "after: MB"), rows)
    rows = []
    for (step, count), ((old_size, old_first), (size, first)) in medians.items():
        name = f"{step}, the middle of a pass" if (step, count) == (middle, 1) else step
        rows.append((name, count, f"{old_size:,.0f}", f"{size:,.0f}", f"{old_first:.1f}", f"{first:.1f}"))
    return table(("from step", "machines", "before: MB", "after: MB", "before: s", "after: s"), rows)


def hash_of(rows: list[list[str]]) -> str:
    """Return a short text that tells batches apart, however many machines made them."""
    return hashlib.sha256("".join(itertools.chain(*rows)).encode()).hexdigest()[:8]


if __name__ == "__main__":
    main()
