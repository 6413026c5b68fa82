"""The entry point of the container: a processing module of mercure, or without mercure the plain command.

mercure calls it with the folders MERCURE_IN_DIR and MERCURE_OUT_DIR; the first holds `[series UID]#[file UID].dcm` and
`task.json`, whose settings ("process" > "settings") may be `keep_identity` (true or false, default false) and
`indication`. Frontal views come first, by their ViewPosition. DICOM files go to the second, under names of the same
kind. Research only, never for clinical use.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pydicom

from hub_cards.hospital.__main__ import main
from hub_cards.hospital.source import check_one_study, frontal_first, view_of

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
        unknown = sorted(settings.keys() - KINDS)
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
        ValueError: no DICOM file, files of several studies, none that may be a frontal view, or settings that are none.
    """
    settings = read_settings(source)
    files = frontal_first(sorted(source.glob("*.dcm")))
    if not files:
        raise ValueError("the in folder holds no .dcm file")
    check_one_study(files)
    if view_of(files[0]) == "lateral":
        raise ValueError("the in folder holds lateral views alone; a frontal one is needed")
    most = json.loads((checkpoint / "processor_config.json").read_text(encoding="utf-8"))["max_views"]
    if len(files) > most:
        print(f"The checkpoint takes {most} of the {len(files)} views; the others are not read.")
    options = ["--keep-identity"] if settings.get("keep_identity") else []
    options += [f"--indication={settings['indication']}"] if "indication" in settings else []
    with tempfile.TemporaryDirectory() as folder:
        written = main([*map(str, files[:most]), f"--checkpoint={checkpoint}", f"--out={folder}", *options])
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
