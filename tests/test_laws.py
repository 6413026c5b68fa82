"""The laws of the house (../shared/design/architecture.md section 2), one test each."""

import json
from pathlib import Path

import numpy as np
import torch

from tests.helpers.tiny_dicom import dicom_bytes, dicom_dataset
from tests.helpers.tiny_processors import picture_bytes, radiograph, tiny_processor
from training.data.collate import FinetuneCollator, PretrainCollator
from training.data.examples import Example
from training.data.images import ImageBank
from training.data.sentences import Sentence
from training.data.study import Studies

SIDE = 56


def write_studies(folder: Path) -> None:
    """Four studies of one to three views of several shapes: 8-bit PNG and JPEG, 16-bit PNG, DICOM with padding, with a
    window and of either polarity. What is darkest and brightest is gone in the squares, as in 77 % of real ones."""
    eight, twelve = radiograph(150, 90, top=200, seed=1), radiograph(70, 140, top=3000, seed=2)
    padded = radiograph(64, 64, top=2000, seed=3)
    padded[:9] = 4000
    eight[40, 40] = twelve[40, 40] = 60  # a fault of the plate: the darkest pixel, and gone in the square
    eight[50, 50] = 235
    files = {
        "a.png": picture_bytes(eight + 20),
        "b.jpg": picture_bytes(radiograph(200, 200, top=230, seed=4), "JPEG", quality=90),
        "c.png": picture_bytes(twelve + np.uint16(500)),
        "d.dcm": dicom_bytes(dicom_dataset(padded, bits=12, PixelPaddingValue=4000)),
        "e.dcm": dicom_bytes(dicom_dataset(twelve, bits=12, WindowCenter=1500, WindowWidth=2500)),
        "f.dcm": dicom_bytes(dicom_dataset(255 - eight, PhotometricInterpretation="MONOCHROME1")),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    views = {"one": ["a.png"], "two": ["b.jpg", "c.png"], "three": ["d.dcm", "e.dcm", "f.dcm"], "last": ["c.png"]}
    records = [
        {
            "study_id": study, "patient_id": study, "split": "train", "labels": {},
            "images": [{"path": name, "view": None} for name in names],
            "findings": "The heart is enlarged.", "impression": None,
        }
        for study, names in views.items()
    ]  # fmt: skip
    (folder / "studies.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def test_one_way_for_a_pixel(tmp_path: Path):
    """file -> what inference sees == file -> image cache -> each collator, bit for bit."""
    write_studies(tmp_path)
    processor = tiny_processor(size=SIDE)
    studies = Studies(tmp_path, "train")
    files = [[tmp_path / image["path"] for image in record["images"]] for record in studies.records]
    seen = processor(images=files)
    for cache in (str(tmp_path / "cache"), None):
        bank = ImageBank(studies, processor.image_processor, views=3, cache=cache)
        bank.prepare()
        nothing = (None,) * len(processor.clues)
        examples = [
            Example(
                study_id=record["study_id"], source=0, squares=bank.get(index), labels=nothing, record=record,
                sentences=[Sentence("The heart is enlarged.", 1, nothing)],
            )
            for index, record in enumerate(studies.records)
        ]  # fmt: skip
        for collate in (PretrainCollator(processor), FinetuneCollator(processor)):
            batch = collate(examples)
            assert torch.equal(batch["image_mask"], seen["image_mask"])
            difference = (batch["pixel_values"] - seen["pixel_values"]).abs().max().item()
            assert difference == 0, f"{type(collate).__name__}, cache {cache}: pixels differ by up to {difference}"
