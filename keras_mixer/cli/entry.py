"""How every command starts and ends: flags become settings, and bad input one clear sentence.

It imports no framework. A command that needs TensorFlow imports `quiet_tensorflow` before anything else.
"""

import io
import logging
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

import absl.logging

from keras_mixer.cli import flags, quiet_decoders
from keras_mixer.errors import InputError

EXIT_FAILED, EXIT_BAD_INPUT, EXIT_NOT_FINITE, EXIT_INTERRUPTED = 1, 2, 3, 130
OUT_OF_MEMORY = (
    "out of memory ({}); in training use --gradient_accumulation_steps or --rematerialize, with which a run also "
    "goes on, else a smaller --batch_size or --precision=mixed_bfloat16."
)


def run(settings: type[flags.S], command: Callable[[flags.S], Any], on_interrupt: str = "") -> None:
    """Read the command line into settings and run; bad input is one sentence and exit code 2.

    An error with an `exit_code`, such as a loss that is not finite, ends in its sentence and that code. A bug keeps
    its traceback, and --verbosity=1 shows that of bad input too.
    """
    try:
        given = flags.read(settings, sys.argv, flags.doc_of(command))
    except ValueError as error:
        stop(_sentence(error))
    except BrokenPipeError:
        _end_quietly()
    _set_up_logging()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a log that is no terminal gets each line when it is said
    try:
        command(given)
    except KeyboardInterrupt:
        usual = "the same command starts again, a run from its newest checkpoint"
        stop(f"interrupted; {on_interrupt or usual}.", EXIT_INTERRUPTED)
    except BrokenPipeError:  # who reads, such as `head`, has seen enough
        _end_quietly()
    except Exception as error:
        if hasattr(error, "exit_code"):
            again = " without --overwrite" if hasattr(error, "signum") and getattr(given, "overwrite", False) else ""
            stop(f"{str(error).rstrip('.')}{again}.", error.exit_code)
        if isinstance(error, (ValueError, OSError)) and absl.logging.get_verbosity() <= 0:
            stop(_sentence(error))
        _stop_without_memory(error)
        raise


def _end_quietly() -> NoReturn:
    """End where nobody reads standard output any more; Python would complain when it flushes it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(EXIT_FAILED)


def _sentence(error: Exception) -> str:
    return error.on_command_line() if isinstance(error, InputError) else str(error)


def _stop_without_memory(error: Exception) -> None:
    """End where TensorFlow has no more memory."""
    if "tensorflow" not in sys.modules:
        return
    import tensorflow as tf  # slow, and not every command has it

    if isinstance(error, tf.errors.ResourceExhaustedError):
        stop(OUT_OF_MEMORY.format((error.message or "no details").splitlines()[0][:150]), EXIT_FAILED)


def _set_up_logging() -> None:
    """Plain lines: all of this package, warnings of others. --verbosity=1 shows more, and tracebacks of bad input."""
    absl.logging.use_absl_handler()
    if absl.logging.get_verbosity() <= 0:  # where the flag is not given
        absl.logging.set_verbosity(absl.logging.WARNING)
        # TensorFlow warns of what is no use here, such as a method that it cannot convert and need not.
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        logging.getLogger("apache_beam").setLevel(logging.ERROR)  # it warns of options of its own
    logging.getLogger("keras_mixer").setLevel(logging.INFO)
    if "tensorflow" in sys.modules:
        # What decoders say of a damaged picture names no file; a sentence of ours does.
        quiet_decoders.start()
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    absl.logging.get_absl_handler().setFormatter(logging.Formatter("%(levelname)s: %(message)s"))


def stop(sentence: str, code: int = EXIT_BAD_INPUT) -> NoReturn:
    """Print one sentence to standard error, with its list where it has one, and exit."""
    print(f"error: {sentence.strip()}", file=sys.stderr, flush=True)
    sys.exit(code)
