"""RaDialog by its real entry points: alignment and classifier, then the language model on findings in the prompt."""

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.paths import ROOT
from tests.helpers.training_helpers import TINY_RADIALOG, run_script, stage_1, stage_2
from training.run.tracking import read_metrics

pytestmark = pytest.mark.usefixtures("one_thread")
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
        config["model"] = {"checkpoint": str(checkpoint)}
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


def test_images_without_any_report_align_nothing(data, tmp_path):
    config = small(1, data, tmp_path / "stage1")
    config["data"]["train"] = config["data"]["train"][1:]
    with pytest.raises(SystemExit, match=r"data\.train: .* aligned with reports; expected a source of kind 'pair'"):
        run_script("pretrain.py", config)
