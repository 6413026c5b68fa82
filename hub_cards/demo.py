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

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.utils import logging

from hub_cards.evidence import draw_evidence
from hub_cards.publish import REPOSITORY, assemble
from training.phantoms.generate import generate_phantom

CHECKPOINT = REPOSITORY / "hub_cards" / "trrg-small"
NOTICE = "Research only, never for clinical use."
HEAT_NOTE = "Heat: patches that support the clue more than the median patch does."
PHANTOM_SEED, PHANTOM_INDEX = 2024, 0
BAR_WIDTH = 24


def clue_table(clues: list[Any]) -> str:
    """One line a clue: name, bar, score."""
    width = max(len(clue.name) for clue in clues)
    lines = []
    for clue in clues:
        bar = "█" * round(clue.score * BAR_WIDTH)
        lines.append(f"  {clue.name:<{width}}  {bar:·<{BAR_WIDTH}}  {clue.score:.2f}")
    return "\n".join(lines)


def print_section(heading: str, words: str) -> None:
    print(heading)
    print(textwrap.fill(words, 100, initial_indent="  ", subsequent_indent="  "))


def main(arguments: list[str] | None = None) -> None:
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
    context = {"indication": args.indication, "technique": None}
    if synthetic:
        context = {name: context[name] or phantom.record[name] for name in context}

    folder = args.out / args.checkpoint.name
    assemble(args.checkpoint, folder)
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True).eval()

    start = time.perf_counter()
    try:
        inputs = processor(images=study, **context, return_tensors="pt")
    except ValueError as error:
        raise SystemExit(f"This study cannot be read: {error}") from error
    with torch.inference_mode():
        clues = None if model.config.clue_source == "none" else model.predict_clues(**inputs)
        generated = model.generate(**inputs, max_new_tokens=args.max_new_tokens, do_sample=False)
    report = processor.post_process_report(generated, clues, prompt_length=inputs["input_ids"].shape[1])[0]
    seconds = time.perf_counter() - start

    kind = "SYNTHETIC phantom, no patient" if synthetic else str(study)
    sections = [("Findings", report.findings or "-"), ("Impression", report.impression or "-")]
    written = {
        "notice": NOTICE,
        "synthetic": synthetic,
        "study": str(study),
        **context,
        "checkpoint": args.checkpoint.name,
        "seconds": round(seconds, 2),
        **report.to_dict(),
    }
    if synthetic:
        written["planted"] = phantom.record["impression"]
    (args.out / "report.json").write_text(json.dumps(written, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    grey = inputs["pixel_values"][0].mean(dim=1).numpy()
    if report.clues:
        draw_evidence(args.out / "evidence.png", grey, report.clues, sections, f"{kind}.  {HEAT_NOTE}  {NOTICE}")

    print(f"Study: {kind}\n")
    for heading, words in sections:
        print_section(heading, words)
    if synthetic:
        print_section("What the generator planted, in its own words", phantom.record["impression"])
    if report.clues:
        print(f"\nDisease clues ({model.config.clue_scoring} scores)\n{clue_table(report.clues)}\n")
    picture = f" and {args.out}/evidence.png" if report.clues else " (this model has no clues to draw)"
    print(f"{args.checkpoint.name} took {seconds:.1f} s and wrote {args.out}/report.json{picture}")
    print(f"The complete Hub folder is {folder}")
    print(NOTICE)


if __name__ == "__main__":
    main()
