"""What must hold for any input: it is read, or refused with an error of ours; nothing else, and within bounds."""

import functools
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import yaml
from huggingface_hub.errors import StrictDataclassError
from hypothesis import strategies as st

from configuration_trrg import TRRGConfig
from evaluation.metrics.truthfulness import inconsistencies
from evaluation.predictions.records import StudyIndex, read_pairs
from evaluation.reading.labeler import explain_report, label_report
from evaluation.reading.prior_comparisons import comparison_sentences
from evaluation.reading.sections import split_sections
from evaluation.reading.sides import find_sides
from modeling_trrg import TRRGForConditionalGeneration
from processing_trrg import (
    RadiographError,
    StudyError,
    TRRGImageProcessor,
    TRRGProcessor,
    read_radiograph,
    split_report,
)  # fmt: skip
from tests.fuzz import inputs
from tests.helpers.checkpoints import save_checkpoint
from tests.helpers.models import TINY
from tests.helpers.paths import ROOT
from tests.helpers.tiny_processors import radiograph, tiny_processor
from training.config.command_line import loading
from training.config.run_config import ConfigError, FinetuneConfig, load_config
from training.data.study import Studies, record_fault

IMAGE_PROCESSOR = TRRGImageProcessor(size=32)
PROCESSOR = tiny_processor()
VIEW = radiograph()
STUDY = {
    "study_id": "s1", "patient_id": "p1", "split": "train", "images": [{"path": "a.png", "view": "frontal"}],
    "indication": "Cough.", "technique": None, "comparison": None, "prior_report": None, "prior_images": [],
    "findings": "Clear.", "impression": "Normal.", "labels": {"Edema": 1, "Fracture": None},
    "boxes": [{"label": "Edema", "x": 1, "y": 2, "w": 3, "h": 4}], "synthetic": False,
    "prediction": "Clear.", "reference": "No effusion.", "clue_scores": {"Edema": 0.5}, "has_prior": False,
}  # fmt: skip
RUN = yaml.safe_load((ROOT / "training/configs/trrg-small-stage2.yaml").read_text())


class Target(NamedTuple):
    """`run` takes one of `inputs` and says whether it was read (True) or refused (False)."""

    inputs: Callable[[], st.SearchStrategy[bytes]]
    run: Callable[[bytes], bool]


def picture(data: bytes) -> bool:
    try:
        square = IMAGE_PROCESSOR.square(read_radiograph(data, "picture"))
    except RadiographError as error:
        assert "\n" not in str(error) and len(str(error)) < 400
        return False
    pixels = IMAGE_PROCESSOR.normalise(square[None])
    assert square.shape == (32, 32) and np.isfinite(np.asarray(pixels)).all()
    return True


def text(data: bytes) -> bool:
    report = data.decode("utf-8", "surrogatepass")
    labels = label_report(report)
    assert explain_report(report).labels == labels and set(labels.values()) <= {1, 0, -1, None}
    split_sections(report), split_report(report), find_sides(report)
    inconsistencies(report), comparison_sentences(report)
    try:
        batch = PROCESSOR(images=VIEW, indication=report, return_tensors="pt")
    except StudyError as error:
        assert "indication" in str(error)
        return False
    assert len(batch["input_ids"]) == 1
    return True


def record(data: bytes) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "studies.jsonl")
        file.write_bytes(data + b"\n")
        read = True
        try:
            for study in Studies(folder, "train").records:
                read = record_fault(study) is None
        except ValueError as error:
            assert folder in str(error), "the error does not name the file"
            read = False
        try:
            pairs = list(read_pairs(file, None, "report", given_labels=False))
            assert len(pairs) == len(StudyIndex(file))
        except ValueError as error:
            assert folder in str(error), "the error does not name the file"
            read = False
    return read


def run_configuration(data: bytes) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "run.yaml")
        file.write_bytes(data)  # JSON is YAML
        try:
            load_config(FinetuneConfig, file, [])
        except ConfigError as error:
            assert str(file) in str(error)
            return False
    return True


def model_configuration(data: bytes) -> bool:
    try:
        TRRGConfig(**json.loads(data))
    except (ValueError, StrictDataclassError):
        return False
    return True


@functools.cache
def whole_checkpoint() -> Path:
    return save_checkpoint(Path(tempfile.mkdtemp(prefix="trrg-fuzz-")), "trrg")


def checkpoint(data: bytes) -> bool:
    """A checkpoint with one damaged file is refused in one line, or its weights are all numbers."""
    name, _, content = data.partition(b"\n")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "checkpoint")
        shutil.copytree(whole_checkpoint(), copy)
        (copy / name.decode()).write_bytes(content)
        try:
            with loading("--checkpoint", str(copy)):
                TRRGProcessor.from_pretrained(copy)
                model = TRRGForConditionalGeneration.from_pretrained(copy)
        except ConfigError as error:
            assert str(copy) in str(error) and "\n" not in str(error)
            return False
    assert all(bool(torch.isfinite(weight).all()) for weight in model.parameters())
    return True


TARGETS = {
    "pictures": Target(inputs.pictures, picture),
    "texts": Target(inputs.texts, text),
    "records": Target(lambda: inputs.changed(STUDY), record),
    "run_configurations": Target(lambda: inputs.changed(RUN), run_configuration),
    "model_configurations": Target(lambda: inputs.changed(TINY["trrg"]), model_configuration),
    "checkpoints": Target(lambda: inputs.files(whole_checkpoint()), checkpoint),
}
