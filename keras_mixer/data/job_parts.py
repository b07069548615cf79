"""A long job in parts that any process may do: after a kill the same command does the parts that are missing.

A folder beside the output keeps what the processes share: `job.json` says which job it is, `lists/` the images of each
part, and `done/` a small file of facts for each part whose output is there, written after it. A part that two processes
do has the same bytes twice, so an engine may start one again.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from keras_mixer import buckets, files
from keras_mixer.data.progress import Progress
from keras_mixer.errors import InputError

JOB, CLAIM, STOPPED, UNWRITTEN = "job.json", "claim", "stopped.json", "unwritten.json"
SECONDS = 2.0  # between two looks at what an engine has done; a bucket is asked that often
Work = Callable[[str], dict[str, Any]]  # name of a part -> the facts of what it has written


class Engine(NamedTuple):
    """Where the parts of a job are done: a runner of Apache Beam, and Beam's own options in one text."""

    runner: str
    options: str = ""


@dataclasses.dataclass(frozen=True)
class Job:
    """The parts of a job, as each process sees them that does some.

    Attributes:
        folder: what the processes share; all of them see it under this name.
        key: of what the parts are a function of.
    """

    folder: str
    key: str

    def images(self, name: str) -> list[Any]:
        """Return the list of a part."""
        return self.read(f"lists/{name}.json")

    def facts(self, name: str) -> dict[str, Any] | None:
        """Return what was said of a part that is done, else None."""
        return self.read(f"done/{name}.json")

    def read(self, name: str) -> Any:
        """Return what a small file of the folder says; None where it is not there."""
        try:
            with buckets.as_os_errors():
                return json.loads((self.path / name).read_bytes())
        except FileNotFoundError:
            return None

    def say(self, name: str, value: Any) -> None:
        """Write a small file of the folder."""
        with files.writing(self.path / name) as file:
            json.dump(value, file)

    def do(self, name: str, work: Work) -> None:
        """Do a part, unless it is done or the job has ended.

        Bad input ends the job for all processes; what cannot be written costs its part alone.
        """
        if (self.read(JOB) or {}).get("key") != self.key or self.read(STOPPED) or self.facts(name) is not None:
            return
        try:
            facts = work(name)
        except ValueError as error:
            self.say(STOPPED, str(error))
        except Exception as error:
            reason = buckets.reason(error)
            if reason is None:
                raise
            with contextlib.suppress(OSError):  # where not even this can be written, the part is missing all the same
                self.say(UNWRITTEN, reason)
        else:
            self.say(f"done/{name}.json", facts)

    @functools.cached_property
    def path(self) -> pathlib.Path:
        return buckets.path_of(self.folder)


@contextlib.contextmanager
def open_job(output: pathlib.Path, of: object, lists: Iterable[tuple[str, list[Any]]]) -> Iterator[Job]:
    """Give the job that writes `output`, a new one or the one that a kill has left; at its end its folder is removed.

    Args:
        output: what is to be written.
        of: JSON values that the output is a function of, beside the lists.
        lists: name of each part, and its images as JSON values.

    Raises:
        ValueError: where another process does the job, or the folder is another job's.
    """
    folder = folder_of(output)
    parts = list(lists)
    digest = hashlib.sha256(json.dumps(of, sort_keys=True).encode())
    for part in parts:
        digest.update(json.dumps(part).encode())
    job = Job(os.fspath(folder), digest.hexdigest())
    with files.naming_folder("output", folder):
        buckets.make_folder(folder)
    claimed = folder / CLAIM if buckets.is_bucket(folder) else folder
    with files.lock(claimed, f"output: another process writes {output}; wait for it."):
        found = job.read(JOB)
        if found is None:
            with files.naming_folder("output", folder), _threads() as threads:
                list(threads.map(lambda part: job.say(f"lists/{part[0]}.json", part[1]), parts))
                job.say(JOB, {"key": job.key})  # last: the lists are whole
        elif found["key"] != job.key:
            raise ValueError(
                f"output: {folder} keeps the finished parts of another job for {output}, of other images or settings; "
                "give that job's command again to finish it, or remove that folder, or choose another output."
            )
        for old in (STOPPED, UNWRITTEN):
            if job.read(old) is not None:
                (folder / old).unlink()
        yield job
        _remove(folder)


def folder_of(output: pathlib.Path) -> pathlib.Path:
    """Return the folder beside an output that keeps what is done of it; a ValueError for a bucket's root."""
    if buckets.is_bucket(output) and "/" not in os.fspath(output).removeprefix(buckets.SCHEME).rstrip("/"):
        raise ValueError(f"output: {output} is a whole bucket; give a folder in it, such as {output}/output.")
    return output.with_name(f".{output.name}.parts.tmp")


def do_parts(
    job: Job, names: Sequence[str], prepare: Callable[[], Work], engine: Engine | None, label: str
) -> list[dict[str, Any]]:
    """Do the parts of a job that are missing, and return the facts of all, in the order of their names.

    Args:
        job: of `open_job`.
        names: of all its parts.
        prepare: called once in each process, for instance to load a model; what it returns does one part. For an engine
            both are picklable.
        engine: where the parts are done; None does them here.
        label: what progress begins with.

    Raises:
        ValueError: what the first part raised that met bad input.
        OSError: where parts could not be written; the others are kept.
    """
    with _threads() as threads:
        missing = [name for name, facts in zip(names, threads.map(job.facts, names), strict=True) if facts is None]
    with Progress(label, len(names), "parts") as progress:
        progress.update(len(names) - len(missing))
        if engine is None and missing:
            work = prepare()
            for name in missing:
                job.do(name, work)
                progress.update()
        elif engine is not None and missing:
            from keras_mixer.data.beam_engine import run  # Apache Beam is optional

            with _watching(job, progress):
                run(engine.runner, engine.options, missing, functools.partial(_prepared, job, prepare))
    if sentence := job.read(STOPPED):
        raise ValueError(sentence)
    with _threads() as threads:
        facts = [of_part for of_part in threads.map(job.facts, names) if of_part is not None]
    if len(facts) < len(names):
        reason = job.read(UNWRITTEN) or f"none is in {job.folder}, which every process must see under that name"
        raise OSError(
            f"output: {len(names) - len(facts):,} of {len(names):,} parts could not be written ({reason}); mend that, "
            "and give the same command again to do the rest."
        )
    return facts


def check_engine(engine: Engine | None) -> None:
    """Refuse, before anything is written, a runner or options that Beam does not know, or any where Beam is missing."""
    if engine is None:
        return
    try:
        from keras_mixer.data.beam_engine import check
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("apache_beam"):
            raise
        fault = f"{engine.runner} needs the package apache-beam"
        raise InputError("runner", fault, "install it with pip install 'keras_mixer[beam]'") from None
    check(engine.runner, engine.options)


def _threads() -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(32)  # in a bucket each small file is a request


def _prepared(job: Job, prepare: Callable[[], Work]) -> Callable[[str], None]:
    work = prepare()
    return lambda name: job.do(name, work)


@contextlib.contextmanager
def _watching(job: Job, progress: Progress) -> Iterator[None]:
    """Show how many parts are done, while an engine does them."""
    ended, seen = threading.Event(), progress.done

    def look() -> None:
        nonlocal seen
        with contextlib.suppress(OSError), buckets.as_os_errors():  # there is no such folder before the first part
            found = sum(path.name.endswith(".json") for path in (job.path / "done").iterdir())
            if found > seen:
                progress.update(found - seen)
                seen = found

    def watch() -> None:
        while not ended.wait(SECONDS):
            look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        look()


def _remove(folder: pathlib.Path) -> None:
    if not buckets.is_bucket(folder):
        shutil.rmtree(folder, ignore_errors=True)  # the output is whole, whatever stays of this
        return
    of_bucket: Any = folder
    with buckets.as_os_errors():
        of_bucket.rmtree()
