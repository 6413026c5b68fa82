"""How a command ends: its exit status, and one line where what it was given is wrong.

0    done, or ended where `run.stop_after` said
1    an error, in one line on stderr; a traceback is a bug of ours
2    wrong arguments
143  SIGTERM ended it early; the same command goes on
"""

import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from training.config.yaml_config import ConfigError

STOPPED = 143
"""Exit status of a run that SIGTERM ended before its last step, so that `a && b` does not go on."""
OURS = {"__main__", "configuration_trrg", "modeling_trrg", "processing_trrg", "training", "evaluation", "hub_cards",
        "transformers_modules"}  # fmt: skip
"""First names of modules whose ValueErrors are words to the user; the last one is a checkpoint's own copy of ours."""


def run_command(main: Callable[[], int | None]) -> int:
    """Run a command and return its exit status.

    Raises:
        SystemExit: with one line, for a ValueError that this project raised and for an error of files or disks. Any
            other error is a bug and keeps its traceback.
    """
    try:
        return main() or 0
    except (ValueError, OSError) as error:
        if isinstance(error, ValueError) and not _is_ours(error):
            raise
        if os.environ.get("RANK", "0") != "0":
            # process 0 mostly has the same error: the launcher ends us before we say it again
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(2)
        words = str(error)
        if isinstance(error, OSError) and error.filename is not None:
            words = f"{error.filename}: {error.strerror}"
        raise SystemExit(f"error: {words}") from error


def _is_ours(error: Exception) -> bool:
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_globals["__name__"].split(".")[0] in OURS


@contextmanager
def writing(file: Path) -> Iterator[None]:
    """Name the file in an error of the disk (it is full), which Python leaves out where a file is open already.

    Raises:
        OSError: with the file and how to go on.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        how = f"{error.strerror}; what is finished is kept, and the same command goes on from it"
        raise OSError(error.errno, how, str(file)) from error


@contextmanager
def loading(key: str, name: str | None) -> Iterator[None]:
    """While a checkpoint is read, an error names it, in one line.

    Raises:
        ConfigError: it cannot be loaded.
    """
    try:
        yield
    except Exception as error:  # libraries raise errors of any type for a damaged file, tokenizers a bare Exception
        if isinstance(error, ConfigError) or (_is_ours(error) and not isinstance(error, (OSError, ValueError))):
            raise
        where = "" if Path(str(name)).exists() else " (no such folder)"
        words = str(error).partition("\n")[0] or type(error).__name__
        raise ConfigError(f"{key}: {name}{where} cannot be loaded: {words}") from error
