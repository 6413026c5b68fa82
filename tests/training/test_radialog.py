"""RaDialog by its real entry points: alignment and classifier, then the language model on findings in the prompt."""

import contextlib
import io
import shutil
import sys
from pathlib import Path
from typing import Any, Literal

import pytest

from configuration_trrg import TRRGConfig
from evaluation.reading.labeler import label_report
from modeling_trrg import TRRGForContrastivePretraining
from processing_trrg import TRRGProcessor, report_text
from processing_trrg.prompt_trrg import FINDINGS_FIELDS
from tests.helpers.paths import ROOT
from tests.helpers.training_helpers import (
    TINY_RADIALOG,
    assert_same_losses,
    records,
    run_script,
    stage_1,
    stage_2,
)
from training import calibrate
from training.config.run_config import DataSection, Source
from training.data.collate import FinetuneCollator, PretrainCollator
from training.data.examples import Examples, SourceData
from training.data.sampler import Draw
from training.run.tracking import read_metrics

pytestmark = pytest.mark.usefixtures("one_thread")
KINDS: tuple[Literal["pair", "image"], ...] = ("pair", "image")
ALIGNMENT = {"sentence_loss", "matching_loss", "generation_loss"}


def small(stage: int, data: Path, out: Path, checkpoint: Path | None = None) -> dict[str, Any]:
    """Two steps of the small RaDialog's own configuration on tiny data, with a tiny model."""
    config = stage_1(data, out) if stage == 1 else stage_2(data, out)
    pairs, reports = str(data / "pairs"), str(data / "reports")
    matched = {"path": pairs, "kind": "matched", "reports": reports}
    config["base"] = str(ROOT / "training" / "configs" / f"radialog-small-stage{stage}.yaml")
    if stage == 1:
        vision = {"model_type": "resnet", **TINY_RADIALOG["vision_config"]}
        config["model"] |= {"preset": "radialog-small", "overrides": {**TINY_RADIALOG, "vision_config": vision}}
    else:
        config["model"] = {"checkpoint": str(checkpoint), "language_model": None}
        config["data"]["train"] = [{"path": pairs}, matched, matched | {"kind": "composed"}]
        config["data"]["validation"] = config["data"]["validation"][:1]
        del config["trained"]
    del config["data"]["sentences_per_study"]
    config["run"]["best_metric"] = "loss"
    return config | {"schedule": {"steps": 2, "warmup_steps": 1}}


@pytest.fixture(scope="module")
def aligned(data, tmp_path_factory) -> Path:
    """Stage 1 of the small RaDialog on phantoms, and on their images alone."""
    out = tmp_path_factory.mktemp("radialog") / "stage1"
    assert run_script("pretrain.py", small(1, data, out)) == 0
    return out


@pytest.fixture(scope="module")
def sees_fractures(data, aligned, tmp_path_factory) -> Path:
    """Stage 1 with thresholds: it sees a fracture in every image, which no phantom has, and nothing else in any."""
    folder = tmp_path_factory.mktemp("radialog") / "model"
    shutil.copytree(aligned / "model", folder)
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(calibrate, "MIN_STUDIES", 1)
        arguments = ["calibrate", str(folder), "--data", str(data / "pairs"), "--split", "train", "--write"]
        patch.setattr(sys, "argv", arguments)
        calibrate.main()
    rows = printed.getvalue().splitlines()
    assert any(row.startswith(("| Left ", "| Right ")) and "/pairs |" in row for row in rows)
    config = TRRGConfig.from_pretrained(folder)
    names = [clue["name"] for clue in TRRGProcessor.from_pretrained(folder).clues]
    assert config.clue_calibration is not None and len(config.clue_calibration) == len(names)
    config.clue_calibration = [[1.0, 20.0 if name == "Fracture" else -20.0, 0.5] for name in names]
    config.clue_operating_points = [[0.5, *[0.0] * 11] if name == "Edema" else [] for name in names]
    config.to_json_file(folder / "config.json")
    return folder


def test_the_published_configuration_aligns_and_then_tunes(data, tmp_path):
    """Alignment with whole reports (ITC, ITM, LM) and the classifier, then the language model on predicted findings."""
    config = stage_1(data, tmp_path / "stage1")
    config["model"] |= {"preset": "radialog", "overrides": TINY_RADIALOG}
    config["data"] |= {"train": [{"path": str(data / "pairs")}], "sentences_per_study": 1}
    config["trained"] = ["vision_tower", "query_transformer", "classifier", "logit_scale"]
    assert run_script("pretrain.py", config) == 0
    assert {*ALIGNMENT, "clue_loss"} <= read_metrics(tmp_path / "stage1" / "metrics.jsonl")[0].keys()
    second = stage_2(data, tmp_path / "stage2")
    second["model"] = {"checkpoint": str(tmp_path / "stage1" / "model")}
    for name in ("train", "validation"):
        second["data"][name] = second["data"][name][:1]
    second["trained"] = ["multi_modal_projector", "language_model"]
    assert run_script("finetune.py", second) == 0


def test_the_small_system_learns_both_stages_from_its_own_configurations(data, aligned, tmp_path):
    row = read_metrics(aligned / "metrics.jsonl")[0]
    assert all(row[part] > 0 for part in (*ALIGNMENT, "clue_loss"))
    config = small(2, data, tmp_path / "stage2", aligned / "model")
    assert run_script("finetune.py", config) == 0


def test_the_prompt_says_what_passes_the_stored_thresholds(data, sees_fractures):
    model = TRRGForContrastivePretraining.from_pretrained(sees_fractures).eval()
    processor = TRRGProcessor.from_pretrained(sees_fractures)
    record = records(data / "pairs", "validation").popitem()[1]
    batch = processor(images=data / "pairs" / record["images"][0]["path"])
    study = model.read_study(pixel_values=batch["pixel_values"], image_mask=batch["image_mask"])
    prompt = processor.say_findings(batch, study)["input_ids"]
    assert "Predicted findings: fracture. Possible findings: edema." in processor.tokenizer.decode(prompt[0])


def test_most_prompts_say_what_the_classifier_sees(data, sees_fractures, tmp_path, monkeypatch):
    """Composed ones too, whose report says no more; a resumed run draws the same, and the thresholds are handed on."""
    said: list[tuple[int, bool]] = []
    composed: list[set[str]] = []
    fields = FinetuneCollator._fields

    def keep(collator: FinetuneCollator, example: Any) -> dict[str, Any]:
        found = fields(collator, example)
        assert (found["possible_findings"] is None) == (example.predicted is None)
        told = [found[name] for name in FINDINGS_FIELDS] == [["Fracture"], [], ["Edema"]]
        said.append((example.source, told))
        if told and example.source == 2:
            stated = label_report(report_text(example.record.findings, example.record.impression))
            composed.append({name for name, value in stated.items() if value == 1})
        return found

    config = small(2, data, tmp_path / "straight", sees_fractures)
    config["schedule"] = {"steps": 6}
    config["run"]["generate_studies"] = 0
    config["data"]["validation"] = []
    with monkeypatch.context() as patch:
        patch.setattr(FinetuneCollator, "_fields", keep)
        assert run_script("finetune.py", config) == 0
    told = [fracture for _, fracture in said]
    assert 0.6 < sum(told) / len(told) < 0.95 and len(told) > 50
    assert len(composed) > 10 and all(stated == {"Fracture"} for stated in composed)
    config["run"] |= {"output_dir": str(tmp_path / "halted"), "stop_after": 3}
    assert run_script("finetune.py", config) == run_script("finetune.py", config) == 0
    assert_same_losses(tmp_path / "straight", tmp_path / "halted")
    handed_on = TRRGConfig.from_pretrained(tmp_path / "straight" / "model").clue_calibration
    assert handed_on == TRRGConfig.from_pretrained(sees_fractures).clue_calibration


def test_predicted_findings_need_a_model_that_sees_and_says_them(data, aligned, tmp_path):
    other = stage_2(data, tmp_path / "other")
    moving, blind = (small(2, data, tmp_path / name, aligned / "model") for name in ("moving", "blind"))
    for config in (other, moving, blind):
        config["data"]["predicted_findings"] = 0.5
    moving["trained"] = ["multi_modal_projector", "language_model", "classifier"]
    blind["model"]["overrides"] = {"clue_source": "none"}
    for config, words in (
        (other, "the prompt style 'trrg' names no findings"),
        (moving, "what is seen would change, since classifier is trained"),
        (blind, r"the model has no classifier and no clues \(clue_source='none'\)"),
    ):
        with pytest.raises(SystemExit, match=rf"data\.predicted_findings: 0\.5, but {words}"):
            run_script("finetune.py", config)


def test_an_image_without_report_brings_an_empty_one(data, aligned):
    """Also where its record has one: a source of kind "image" has labels alone."""
    processor = TRRGProcessor.from_pretrained(aligned / "model")
    section, pairs = DataSection(views=1, augment=False), str(data / "pairs")
    sources = [SourceData(Source(pairs, k), section, processor.clues, processor.image_processor) for k in KINDS]
    for source in sources:
        source.find_sentences(0.0, label_report, whole=True)
    examples = Examples(sources, section, seed=0, training=False)
    batch = PretrainCollator(processor, reports=True)([examples[Draw(source, 0, 0, 0)] for source in (0, 1)])
    assert batch["sentence_attention_mask"].any(1).tolist() == [True, False]


def test_images_without_any_report_align_nothing(data, tmp_path):
    config = small(1, data, tmp_path / "stage1")
    config["data"]["train"] = config["data"]["train"][1:]
    with pytest.raises(SystemExit, match=r"data\.train: .* aligned with reports; expected a source of kind 'pair'"):
        run_script("pretrain.py", config)
