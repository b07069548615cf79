"""Apache Beam, which hands names of parts to the processes of an engine; imported only where one is asked for."""

import contextlib
import io
import logging
import shlex
from collections.abc import Callable, Iterator, Sequence
from typing import Any

_import_said = logging.root.manager.disable
logging.disable(logging.WARNING)  # Beam warns of clients of Google's BigQuery, which nobody here asks
import apache_beam as beam  # noqa: E402
from apache_beam.options.pipeline_options import PipelineOptions  # noqa: E402
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator  # noqa: E402
from apache_beam.runners.runner import create_runner  # noqa: E402
from apache_beam.utils.shared import Shared  # noqa: E402

from keras_mixer.errors import InputError  # noqa: E402

logging.disable(_import_said)
# Of the runner on this machine: as many processes as cores; and not Prism, a program that Beam would download.
DIRECT = (
    *("--direct_running_mode=multi_processing", "--direct_num_workers=0", "--allow_unsafe_triggers"),
    "--default_sdk_harness_log_level=ERROR",
)


class DoPart(beam.DoFn):
    """Does the parts that a process is given; `prepare` is called once in each process, whatever its threads."""

    def __init__(self, prepare: Callable[[], Callable[[str], None]]) -> None:
        self.prepare, self.shared = prepare, Shared()

    def setup(self) -> None:
        self.work = self.shared.acquire(self.prepare)

    def process(self, name: str) -> Iterator[str]:
        self.work(name)
        yield name


def check(runner: str, options: str) -> None:
    """Refuse a runner that Beam does not have, and options that it does not know or take."""
    read = _pipeline_options(runner, options)
    if errors := PipelineOptionsValidator(read, create_runner(runner)).validate():
        told = " ".join(errors[0].split()).rstrip(".")
        raise InputError("beam_options", f"{runner} says: {told}", "see Beam's options of that runner")


def run(runner: str, options: str, names: Sequence[str], prepare: Callable[[], Callable[[str], None]]) -> None:
    """Have an engine call what `prepare` returns with each name, and wait for its end."""
    pipeline = beam.Pipeline(options=_pipeline_options(runner, options))
    parts: Any = pipeline | beam.Create(list(names))
    # Else an engine may do all parts where they were created.
    _ = parts | beam.Reshuffle() | beam.ParDo(DoPart(prepare))
    pipeline.run().wait_until_finish()


def _pipeline_options(runner: str, options: str) -> PipelineOptions:
    try:
        given = shlex.split(options)
    except ValueError as error:
        raise InputError("beam_options", f"{options!r} is no command line ({error})", "mend its quotes") from None
    if strange := [text for text in given if not text.startswith("--")]:
        fault = f"must be options such as --direct_num_workers=2, got {strange[0]!r}"
        raise InputError("beam_options", fault, "write each as --name=value")
    try:
        create_runner(runner)
    except ImportError as error:  # of the clients of Google's Dataflow
        fault = f"{runner} needs more of Beam ({error})"
        raise InputError("runner", fault, "run pip install 'apache-beam[gcp]'") from None
    except ValueError:
        fault = f"Apache Beam has no runner {runner!r}"
        raise InputError("runner", fault, "use DirectRunner, FlinkRunner, SparkRunner or DataflowRunner") from None
    local, said = runner == "DirectRunner", io.StringIO()
    try:
        with contextlib.redirect_stderr(said):  # argparse ends the process, after a hundred lines
            read = PipelineOptions([f"--runner={runner}", *(DIRECT if local else ()), *given])
            known = read.get_all_options(drop_default=True)
            every = read.get_all_options(drop_default=True, retain_unknown_options=True)
    except SystemExit:
        why = said.getvalue().strip().rpartition("error: ")[2]
        fault = f"Beam cannot read {options!r} ({why})"
        raise InputError("beam_options", fault, "see Beam's options of that runner") from None
    if local and every.keys() - known.keys():
        name = sorted(every.keys() - known.keys())[0]
        raise InputError("beam_options", f"Beam has no option --{name}", "see Beam's options of DirectRunner")
    return read
