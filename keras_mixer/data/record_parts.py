"""Records whose shards are the parts of a job, which an engine does: byte for byte the records of one process."""

import contextlib
import dataclasses
import functools
import os
import pathlib
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

from keras_mixer import buckets, files
from keras_mixer.data import checking, record_writing
from keras_mixer.data.job_parts import Engine, Job, Work, do_parts, folder_of, open_job
from keras_mixer.data.record_folder import CLAIM, new_folder
from keras_mixer.data.records import MANIFEST, VERSION
from keras_mixer.data.shrinking import Shrinking
from keras_mixer.types import File

SHARDS = "shards"  # in the folder of a job, until all are there


@dataclasses.dataclass(frozen=True)
class Shards:
    """What a process needs to write any shard of a job.

    Attributes:
        job: has the images of each shard, by names below their root.
        folder: where shards are written.
        policies: split -> the arguments of its `checking.BadImages`.
        shrinking: which images become smaller.
    """

    job: Job
    folder: str
    policies: dict[str, tuple[str, str, int, float | None]]
    shrinking: Shrinking

    def write(self, name: str) -> dict[str, Any]:
        """Write one shard, and return its facts."""
        split, images = self.job.images(name)
        bad = checking.BadImages(*self.policies[split])
        named: list[File] = [(os.path.join(bad.root, path), label) for path, label in images]
        path = buckets.path_of(self.folder) / name
        return record_writing.write_shard(path, named, bad, shrinking=self.shrinking)._asdict()


def write_records(
    plan: record_writing.Plan,
    engine: Engine | None = None,
    *,
    seed: int = 0,
    photographs: bool = True,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write what `record_writing.plan_records` has planned, a shard in each part of a job, and return the manifest.

    The files and the manifest are those of `record_writing.write_records`. Finished shards outlive a kill, and an error
    too, so the same command goes on, also one that now skips bad images.

    Args:
        plan: what to write. Every process of the engine sees its images and its output under the same names.
        engine: where the shards are written; None writes them here.
        seed: that of the plan.
        photographs: as for `record_writing.write_records`, like `overwrite`.
        overwrite: replace earlier records at the output.

    Raises:
        ValueError: for bad images; for another job's finished parts at that output.
        OSError: if shards could not be written.
    """
    in_bucket = buckets.is_bucket(plan.output)
    folder = plan.output if in_bucket else folder_of(plan.output) / SHARDS
    lists: list[tuple[str, list[Any]]] = []
    for split, of_split in plan.splits.items():
        for name, images in record_writing.shards_of(split, of_split, seed):
            lists.append((name, [split, [[os.path.relpath(path, of_split.bad.root), k] for path, k in images]]))
    policies = {
        split: (os.fspath(of.bad.root), split, of.bad.total, of.bad.max_fraction) for split, of in plan.splits.items()
    }
    described = [VERSION, seed, list(plan.class_names), plan.num_bytes, dataclasses.astuple(plan.shrinking)]
    manifest = record_writing.manifest_head(plan, seed, photographs)
    names = [name for name, _ in lists]
    held = _held(plan.output) if in_bucket else contextlib.nullcontext()
    with open_job(plan.output, described, lists) as job, held:
        work = Shards(job, os.fspath(folder), policies, plan.shrinking).write
        facts = do_parts(job, names, functools.partial(_same, work), engine, "written:")
        done = [record_writing.Written(**of_shard) for of_shard in facts]
        _check_seen(folder, done)
        for split, of_split in plan.splits.items():
            written = [shard for shard, (_, (of, _)) in zip(done, lists, strict=True) if of == split]
            for bad in (bad for shard in written for bad in shard.skipped):
                of_split.bad.add(os.path.join(of_split.bad.root, bad["path"]), bad["reason"])
            manifest["splits"][split] = record_writing.split_facts(split, of_split, written)
        if in_bucket:
            for path in [p for p in plan.output.iterdir() if p.name.endswith(".tfrecord") and p.name not in names]:
                path.unlink()  # of earlier records
            record_writing.write_manifest(plan.output, manifest)
        else:
            with new_folder(plan.output, overwrite) as finished:
                for name in names:
                    _give(folder / name, finished / name)
                record_writing.write_manifest(finished, manifest)
    return manifest


def _same(work: Work) -> Work:
    return work


@contextlib.contextmanager
def _held(output: pathlib.Path) -> Iterator[None]:
    """Hold a folder in a bucket, whose shards are about to change, and take away the manifest that names others."""
    with files.lock(output / CLAIM, f"output: another process writes {output}; wait for it."):
        with buckets.as_os_errors():
            if (output / MANIFEST).is_file():
                (output / MANIFEST).unlink()
        yield


def _check_seen(folder: pathlib.Path, done: Sequence[record_writing.Written]) -> None:
    """Refuse shards that are not where this process looks for them, as on a disk of another machine."""
    for shard in (written.shard for written in done):
        path = folder / shard["file"]
        if not path.is_file() or buckets.size_of(path) != shard["bytes"]:
            raise OSError(
                f"output: {path} was written and is not there, with {shard['bytes']:,} bytes; give an --output that "
                "every process sees under the same name, such as a shared disk or gs://bucket/folder."
            )


def _give(shard: pathlib.Path, target: pathlib.Path) -> None:
    """Give a finished shard a second name, or copy it where the file system has no such thing."""
    try:
        os.link(shard, target)
    except OSError:
        shutil.copyfile(shard, target)
