"""The examples on the Space's page: SYNTHETIC phantoms, one whose report is right and one whose report is not."""

import json
from pathlib import Path
from typing import Any

from PIL import Image
from transformers import pipeline

from hub_cards.evidence import right_and_wrong, told

SIZE = 512  # pixels of a phantom's side
LOOKED_AT = 40
"""Phantoms at most: a checkpoint that is never right, or never wrong, has one example."""


def write_examples(space: Path, checkpoint: Path) -> None:
    """Write examples.json and the pictures that it names; the rule that chooses them is `right_and_wrong`'s.

    Args:
        space: folder of the Space.
        checkpoint: published folder.
    """
    write: Any = pipeline("radiology-report", model=str(checkpoint), trust_remote_code=True)
    examples = []
    for phantom, case in right_and_wrong(write, SIZE, LOOKED_AT):
        kind = "wrong" if case.faults else "right"
        Image.fromarray(phantom.image).save(space / f"{kind}.png")
        planted = ", ".join(finding.words for finding in phantom.findings)
        examples.append(
            {
                "file": f"{kind}.png",
                "label": f"Example, {kind}: a synthetic phantom",
                "note": f"{kind.title()}: planted were {planted}. {' '.join(told(case))}",
                "indication": phantom.record.indication or "",
                "technique": phantom.record.technique or "",
            }
        )
    (space / "examples.json").write_text(json.dumps(examples, indent=2) + "\n", encoding="utf-8")
