"""VQA-RAD's chest X-rays -> study records and their questions, split by image.

    python -m training.builders.vqa_rad --root ../shared/data/vqa_rad --out runs/vqa-rad

--root holds `qa.jsonl` (image, question, answer, a line a question) and `images/`. Writes `studies.jsonl`, a study an
image, and `questions.jsonl` (study_id, question, answer), which `evaluation/dialogue.py --tasks vqa` reads; the images
are linked. The official split has questions of one image in training and in test; here one image in five is validation,
by a hash that never changes. Patients are not told, so an image counts as one. Never for clinical use.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from training.builders.builder import TreeError, hashed_split, need
from training.builders.small_data import write_set
from training.data.study import Study

VALIDATION_SHARE = 0.2
"""Of the images."""


def read_vqa_rad(root: Path) -> tuple[list[Study], list[dict[str, str]]]:
    """The studies and their questions.

    Raises:
        TreeError: the table or an image is not there, or a line has no question or answer.
    """
    table = need(root / "qa.jsonl")
    studies: dict[str, Study] = {}
    questions = []
    for number, line in enumerate(table.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise TreeError(f"{table}:{number}: no JSON ({error})") from None
        texts = [row.get(name) for name in ("image", "question", "answer")] if isinstance(row, dict) else row
        if not isinstance(texts, list) or not all(isinstance(text, str) and text.strip() for text in texts):
            raise TreeError(f"{table}:{number}: image, question and answer are {texts}, expected text")
        path, question, answer = map(str.strip, texts)
        name = Path(path).stem
        if name not in studies:
            need(root / path)
            studies[name] = Study(
                name, f"vqa-rad-{name}", hashed_split(f"vqa-rad/{name}", VALIDATION_SHARE, 0),
                images=[{"path": path, "view": None}],
            )  # fmt: skip
        questions.append({"study_id": name, "question": question, "answer": answer})
    return list(studies.values()), questions


def main(arguments: Sequence[str] | None = None) -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder of qa.jsonl and images/")
    parser.add_argument("--out", type=Path, required=True, help="folder for studies.jsonl and questions.jsonl")
    options = parser.parse_args(arguments)
    studies, questions = read_vqa_rad(options.root)
    counts = write_set(options.out, studies)
    with (options.out / "questions.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(question) + "\n" for question in questions)
    link = options.out / "images"
    link.unlink(missing_ok=True)
    link.symlink_to((options.root / "images").resolve())
    print(f"{counts['studies']} images, {len(questions)} questions in {options.out}. Never for clinical use.")


if __name__ == "__main__":
    main()
