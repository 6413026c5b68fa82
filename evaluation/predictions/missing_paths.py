"""A path on the command line that is not there is told before torch is imported, which takes seconds."""

import re
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

PATHS = ("--data", "--images", "--checkpoint")
HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


def stop_at_missing_paths(arguments: Sequence[str] | None = None) -> None:
    """
    Args:
        arguments: of the command; by default those of this process. A checkpoint may be a name on the Hub instead.

    Raises:
        SystemExit: a path that one of `PATHS` names is not there; says which.
    """
    words = list(map(str, sys.argv[1:] if arguments is None else arguments))
    pairs = [tuple(word.split("=", 1)) for word in words if "=" in word] + list(pairwise(words))
    for option, path in pairs:
        if option not in PATHS or Path(path).exists():
            continue
        if option != "--checkpoint" or not HUB_NAME.fullmatch(path):
            raise SystemExit(f"{option}: {path} does not exist")
