"""How every command starts and ends: a quiet TensorFlow, flags, and one clear sentence for bad input."""

from keras_mixer.cli import quiet_tensorflow  # noqa: F401 - first, since TensorFlow writes notes when it is imported

# isort: split
import contextlib
import logging
import os
import platform
import sys
import warnings
from collections.abc import Callable, Collection, Iterator
from typing import Any, NoReturn

import absl.logging
import tensorflow as tf
from absl import app, flags

from keras_mixer.cli import command_line, quiet_decoders
from keras_mixer.data import pipeline
from keras_mixer.data.source import Source
from keras_mixer.errors import InputError
from keras_mixer.files import SaveError
from keras_mixer.training.callbacks import NonFiniteLoss
from keras_mixer.training.loop import WorkerLost
from keras_mixer.training.signals import Interrupted
from keras_mixer.versions import versions as package_versions

FLAGS: Any = flags.FLAGS
EXIT_FAILED, EXIT_BAD_INPUT, EXIT_NOT_FINITE, EXIT_INTERRUPTED = 1, 2, 3, 130


def run(main: Callable[[list[str]], None], positional: bool = False) -> None:
    """Run `main(argv)`; bad input becomes one sentence and exit code 2, a failed run exit code 1.

    Arguments that are no flags are refused, unless `positional`: then they are argv[1:].
    """
    app.run(lambda argv: _guarded(main, argv), flags_parser=lambda argv: _parse_flags(argv, positional))


def settings(without: Collection[str] = ()) -> dict[str, Any]:
    """Return name -> value of this recipe's flags, the shared ones included."""
    named = {flag.name: flag.value for flag in FLAGS.get_key_flags_for_module(sys.argv[0])}
    return {name: value for name, value in sorted(named.items()) if name not in without}


@contextlib.contextmanager
def naming_unreadable_files(*data_sources: Source) -> Iterator[None]:
    """Turn TensorFlow's error about a damaged file into one that names the file, or the shard and record."""
    try:
        yield
    except (
        tf.errors.InvalidArgumentError,
        tf.errors.DataLossError,
        tf.errors.NotFoundError,
        tf.errors.PermissionDeniedError,
    ) as error:
        if pipeline.LABEL_ERROR in (error.message or ""):
            raise
        for source in data_sources:
            found = source.find_unreadable() if source.find_unreadable else None
            if found:
                skip = ", or start with --overwrite and --on_bad_image=skip" if source.loose_files else ""
                raise ValueError(
                    f"dataset: {found} cannot be decoded as an image; replace it, and run the same command again to "
                    f"continue, or remove it and start with --overwrite{skip}."
                ) from None
        raise


def _parse_flags(argv: list[str], positional: bool) -> list[str]:
    try:
        return command_line.parse_flags(argv, positional)
    except ValueError as error:
        stop(str(error))


def _set_up_logging() -> None:
    """Plain lines: all of this package, warnings of others. --verbosity=1 shows more, and tracebacks of bad input."""
    if FLAGS.verbosity == 0:  # what absl sets when the flag is not given
        absl.logging.set_verbosity(absl.logging.WARNING)
        # TensorFlow warns of what is no use here, such as a method that it cannot convert and need not.
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
    logging.getLogger("keras_mixer").setLevel(logging.INFO)
    # What decoders say of a damaged picture names no file; a sentence of ours does.
    quiet_decoders.start()
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    absl.logging.get_absl_handler().setFormatter(logging.Formatter("%(levelname)s: %(message)s"))


def _guarded(main: Callable[[list[str]], None], argv: list[str]) -> None:
    _set_up_logging()
    try:
        main(argv)
    except NonFiniteLoss as error:
        stop(str(error), EXIT_NOT_FINITE)
    except (SaveError, WorkerLost) as error:
        stop(str(error), EXIT_FAILED)
    except Interrupted as error:
        overwrite = "overwrite" in FLAGS and FLAGS.overwrite
        stop(f"{str(error).rstrip('.')}{' without --overwrite' * overwrite}.", 128 + error.signum)
    except KeyboardInterrupt:
        stop("interrupted; the same command starts again, a run from its newest checkpoint.", EXIT_INTERRUPTED)
    except (ValueError, OSError) as error:
        if FLAGS.verbosity > 0:
            raise
        stop(error.on_command_line() if isinstance(error, InputError) else str(error))
    except tf.errors.ResourceExhaustedError as error:
        stop(
            f"out of memory ({(error.message or 'no details').splitlines()[0][:150]}); use a smaller --batch_size, "
            "--precision=mixed_bfloat16, or in training --gradient_accumulation_steps or --rematerialize.",
            EXIT_FAILED,
        )
    except tf.errors.OpError as error:
        message = error.message or ""
        if pipeline.LABEL_ERROR not in message:
            raise
        stop("dataset: " + message[message.index(pipeline.LABEL_ERROR) :].split("\n")[0].replace("'", ""))


def stop(sentence: str, code: int = EXIT_BAD_INPUT) -> NoReturn:
    """Print one sentence to standard error, with its list where it has one, and exit."""
    print(f"error: {sentence.strip()}", file=sys.stderr, flush=True)
    sys.exit(code)


def versions() -> dict[str, str]:
    """What a result depends on besides the flags."""
    gpus = len(tf.config.list_physical_devices("GPU"))
    return {**package_versions(), "machine": f"{platform.machine()}, {os.cpu_count()} cores, {gpus} GPUs"}
