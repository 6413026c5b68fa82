"""From a radiograph to a report, the clues behind it and a picture of both.

    make demo                          a synthetic phantom
    make demo STUDY=path/to/file.dcm   a DICOM, PNG or JPEG file, or a folder with the views of one study
    make demo STUDY=path INDICATION="Cough." PRIOR=before.txt
                                       told why it was made, and the report of the study before: words, or a text file
    make chat STUDY=path/to/file.dcm   the same, then questions and corrections (chat.py)

The checkpoint is first published into `--out` (publish.py), once, then loaded from there as from the Hub: by Auto* and
by its own code. Writes report.json and evidence.png, where there is a prior report with it and what changed. The prior
is words alone: models take the views of one study. Research only, never for clinical use.
"""

import argparse
import dataclasses
import json
import textwrap
import time
from pathlib import Path
from typing import Any

CHECKPOINT = Path(__file__).resolve().parent / "trrg-small"
NOTICE = "Research only, never for clinical use."
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


def worth_on_real_images(folder: Path) -> str:
    """What the checkpoint reached on real images, in a line, from the scores in its card (`model-index`)."""
    from huggingface_hub import ModelCard

    results = ModelCard.load(folder / "README.md").data.eval_results or []
    scores: dict[str, list[str]] = {}
    for result in results:
        if (result.dataset_args or {}).get("images") == "real":
            scores.setdefault(result.dataset_name, []).append(f"{result.metric_name} {result.metric_value:.3f}")
    if not scores:
        return f"What {folder.name} is worth on real images is not known: no scores in its card."
    told = "; ".join(f"{', '.join(values)} on {name}" for name, values in scores.items())
    return f"What {folder.name} is worth on real images, by its card: {told}."


def main(arguments: list[str] | None = None) -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="?", type=Path, help="file, or folder of views; without it, a phantom")
    parser.add_argument("--indication", default=None, help="why the study was made")
    parser.add_argument("--prior", default=None, help="report of the study before, or a .txt file that holds it")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder to write to")
    parser.add_argument("--max-new-tokens", type=int, help="longest report, in tokens (default: the checkpoint's own)")
    parser.add_argument("--ground", action="store_true", help="have the model say where its findings are, too")
    parser.add_argument("--chat", action="store_true", help="talk about the study afterwards")
    args = parser.parse_args(arguments)
    prior_file = Path(args.prior) if args.prior and args.prior.endswith(".txt") else None
    for path in (args.study, args.checkpoint, prior_file):
        if path is not None and not path.exists():
            raise SystemExit(f"{path} does not exist")
    if prior_file:
        try:
            args.prior = prior_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SystemExit(f"{prior_file} is no text in UTF-8: {error}") from error
    run(args)


def run(args: argparse.Namespace) -> None:
    """The demo. What takes seconds to import comes here, after the paths were looked at."""
    from PIL import Image
    from transformers import pipeline
    from transformers.utils import logging

    from hub_cards.chat import talk
    from hub_cards.evidence import SYNTHETIC, Case, draw_evidence, phantom_case
    from hub_cards.publish import assemble, is_current
    from hub_cards.report_words import report_boxes, report_sections, sections_before
    from processing_trrg import list_views
    from training.phantoms.generate import generate_phantom

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    synthetic = args.study is None
    study = args.out / "phantom.png" if synthetic else args.study
    args.out.mkdir(parents=True, exist_ok=True)
    if synthetic:
        phantom = generate_phantom(PHANTOM_SEED, PHANTOM_INDEX, size=512)
        Image.fromarray(phantom.image).save(study)
    # As a training phantom is told; without it the report is about the same (hub_cards/space/README.md).
    technique = phantom.record.technique if synthetic else None
    context = {"indication": args.indication, "technique": technique, "prior_report": args.prior}

    name = args.checkpoint.resolve().name
    folder = args.out / name
    try:
        if not is_current(args.checkpoint, folder):
            assemble(args.checkpoint, folder)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    write: Any = pipeline("radiology-report", model=str(folder), trust_remote_code=True)
    length = {} if args.max_new_tokens is None else {"max_new_tokens": args.max_new_tokens}

    start = time.perf_counter()
    try:
        report = write(study, **context, **length)
        if args.ground:
            report.ground(**length)
    except ValueError as error:
        raise SystemExit(f"This study cannot be read: {error}") from error
    seconds = time.perf_counter() - start

    kind = SYNTHETIC if synthetic else study.resolve().name
    written = {
        "notice": NOTICE,
        "synthetic": synthetic,
        "study": study.resolve().name,
        **context,
        "checkpoint": name,
        "seconds": round(seconds, 2),
        **report.to_dict(),
    }
    worth = "" if synthetic else worth_on_real_images(folder)
    if synthetic:
        written["planted"] = phantom.record.impression
    else:
        written["worth"] = worth
    (args.out / "report.json").write_text(json.dumps(written, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if report.clues:
        grey = write.image_processor.squares(list_views(study) if study.is_dir() else [study])
        case = (
            phantom_case(phantom, report, grey)
            if synthetic
            else Case(kind, grey, report.clues, report_sections(report), boxes=report_boxes(report))
        )
        case = dataclasses.replace(case, before=sections_before(args.prior, report))
        draw_evidence(args.out / "evidence.png", [case], f"{kind}. {name}. {NOTICE}")

    print(f"Study: {kind}\n")
    for heading, words in report_sections(report):
        print_section(heading, words)
    for heading, words in sections_before(args.prior, report):
        print_section(heading, words)
    if synthetic:
        print_section("What the generator planted, in its own words", phantom.record.impression or "-")
    differ = [f"{said.text} (unsupported)" for said in report.sentences if said.support == "unsupported"]
    differ += [f"{clue} is over its threshold and left out." for clue in report.left_out]
    if differ:
        print_section("Where report and clues differ", " ".join(differ))
    if report.clues:
        print(f"\nDisease clues (> reaches the language model)\n{clue_table(report.clues)}\n")
    picture = f" and {args.out}/evidence.png" if report.clues else " (this model has no clues to draw)"
    print(f"{name} took {seconds:.1f} s and wrote {args.out}/report.json{picture}")
    print(f"The complete Hub folder is {folder}")
    if worth:
        print(worth)
    print(NOTICE)
    if args.chat:
        talk(report, write.tokenizer)


if __name__ == "__main__":
    main()
