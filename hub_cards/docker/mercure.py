"""The entry point of the container: a processing module of mercure, or without mercure the plain command.

mercure calls it with the folders MERCURE_IN_DIR and MERCURE_OUT_DIR; the first holds `[series UID]#[file UID].dcm` and
`task.json`, whose settings ("process" > "settings") may be `keep_identity` (true or false, default false) and
`indication`. DICOM files go to the second, under names of the same kind. Research only, never for clinical use.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pydicom

from hub_cards.hospital.__main__ import main

CHECKPOINT = Path(__file__).resolve().parents[1] / "trrg-small"
KINDS = {"keep_identity": bool, "indication": str}


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings of a task.

    Raises:
        ValueError: no `task.json`, or a setting of another name or kind.
    """
    try:
        task = json.loads((folder / "task.json").read_text(encoding="utf-8"))
        settings = (task.get("process") or {}).get("settings") or {}
        unknown = sorted(set(settings) - set(KINDS))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"task.json cannot be read as a task of mercure ({type(error).__name__})") from None
    if unknown:
        raise ValueError(f"task.json has the unknown settings {unknown}; known are {', '.join(KINDS)}")
    for name, value in settings.items():
        if not isinstance(value, KINDS[name]):
            raise ValueError(f"task.json: {name} is {type(value).__name__}, expected {KINDS[name].__name__}")
    return settings


def run_module(source: Path, target: Path, checkpoint: Path) -> None:
    """One task of mercure.

    Raises:
        ValueError: no DICOM file, or settings that are none.
    """
    settings = read_settings(source)
    files = sorted(str(path) for path in source.glob("*.dcm"))
    if not files:
        raise ValueError("the in folder holds no .dcm file")
    options = ["--keep-identity"] if settings.get("keep_identity") else []
    options += [f"--indication={settings['indication']}"] if "indication" in settings else []
    with tempfile.TemporaryDirectory() as folder:
        written = main([*files, f"--checkpoint={checkpoint}", f"--out={folder}", *options])
        for path in (path for path in written if path.suffix == ".dcm"):
            header = pydicom.dcmread(path, stop_before_pixels=True)
            name = f"{header.SeriesInstanceUID}#{header.SOPInstanceUID}.dcm"
            (target / name).write_bytes(path.read_bytes())


if __name__ == "__main__":
    checkpoint = Path(os.environ.get("TRRG_CHECKPOINT", CHECKPOINT))
    if "MERCURE_IN_DIR" in os.environ:
        try:
            run_module(Path(os.environ["MERCURE_IN_DIR"]), Path(os.environ["MERCURE_OUT_DIR"]), checkpoint)
        except ValueError as error:
            raise SystemExit(f"This task cannot be done: {error}") from error
    else:
        main([f"--checkpoint={checkpoint}", *sys.argv[1:]])
