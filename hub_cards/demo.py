"""From a radiograph to a report, the clues behind it and a picture of both.

    make demo                          a synthetic phantom
    make demo STUDY=path/to/file.dcm   a DICOM, PNG or JPEG file, or a folder with the views of one study

The checkpoint is first published into `--out` (publish.py), then loaded from there as from the Hub: by Auto* and by
its own code. Writes report.json and evidence.png. Research only, never for clinical use.
"""

import argparse
import json
import textwrap
import time
from pathlib import Path
from typing import Any

from PIL import Image
from transformers import pipeline
from transformers.utils import logging

from hub_cards.evidence import draw_evidence
from hub_cards.publish import REPOSITORY, assemble
from processing_trrg import list_views
from training.phantoms.generate import generate_phantom

CHECKPOINT = REPOSITORY / "hub_cards" / "trrg-small"
NOTICE = "Research only, never for clinical use."
HEAT_NOTE = "Heat: patches that support the clue more than the median patch does."
PHANTOM_SEED, PHANTOM_INDEX = 2024, 0
BAR_WIDTH = 24


def clue_table(clues: list[Any]) -> str:
    """One line a clue: a mark where it reaches the language model, name, bar, score."""
    width = max(len(clue.name) for clue in clues)
    lines = []
    for clue in clues:
        bar = "█" * round(clue.score * BAR_WIDTH)
        mark = ">" if clue.selected else " "
        lines.append(f"{mark} {clue.name:<{width}}  {bar:·<{BAR_WIDTH}}  {clue.score:.2f}")
    return "\n".join(lines)


def print_section(heading: str, words: str) -> None:
    """Print one section of a report, wrapped at 100 characters."""
    print(heading)
    print(textwrap.fill(words, 100, initial_indent="  ", subsequent_indent="  "))


def main(arguments: list[str] | None = None) -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="?", type=Path, help="file, or folder of views; without it, a phantom")
    parser.add_argument("--indication", default=None, help="why the study was made")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder to write to")
    parser.add_argument("--max-new-tokens", type=int, default=160)
    args = parser.parse_args(arguments)

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    synthetic = args.study is None
    study = args.out / "phantom.png" if synthetic else args.study
    args.out.mkdir(parents=True, exist_ok=True)
    if synthetic:
        phantom = generate_phantom(PHANTOM_SEED, PHANTOM_INDEX, size=512)
        Image.fromarray(phantom.image).save(study)
    # Every training phantom came with its technique; without it the prompt is one that the checkpoint never saw.
    context = {"indication": args.indication, "technique": phantom.record.technique if synthetic else None}

    folder = args.out / args.checkpoint.name
    assemble(args.checkpoint, folder)
    write: Any = pipeline("radiology-report", model=str(folder), trust_remote_code=True)

    start = time.perf_counter()
    try:
        report = write(study, **context, max_new_tokens=args.max_new_tokens, do_sample=False)
    except ValueError as error:
        raise SystemExit(f"This study cannot be read: {error}") from error
    seconds = time.perf_counter() - start

    kind = "SYNTHETIC phantom, no patient" if synthetic else study.name
    sections = [("Findings", report.findings or "-"), ("Impression", report.impression or "-")]
    written = {
        "notice": NOTICE,
        "synthetic": synthetic,
        "study": study.name,
        **context,
        "checkpoint": args.checkpoint.name,
        "seconds": round(seconds, 2),
        **report.to_dict(),
    }
    if synthetic:
        written["planted"] = phantom.record.impression
    (args.out / "report.json").write_text(json.dumps(written, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if report.clues:
        grey = write.image_processor.squares(list_views(study) if study.is_dir() else [study])
        draw_evidence(args.out / "evidence.png", grey, report.clues, sections, f"{kind}.  {HEAT_NOTE}  {NOTICE}")

    print(f"Study: {kind}\n")
    for heading, words in sections:
        print_section(heading, words)
    if synthetic:
        print_section("What the generator planted, in its own words", phantom.record.impression or "-")
    if report.clues:
        print(f"\nDisease clues (> reaches the language model)\n{clue_table(report.clues)}\n")
    picture = f" and {args.out}/evidence.png" if report.clues else " (this model has no clues to draw)"
    print(f"{args.checkpoint.name} took {seconds:.1f} s and wrote {args.out}/report.json{picture}")
    print(f"The complete Hub folder is {folder}")
    print(NOTICE)


if __name__ == "__main__":
    main()
