"""Rewards of reports: values by hand, columns that are missing, and GRPO of the small checkpoint."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from evaluation.metrics.reward import clue_reward, completion_text, label_reward, length_reward, report_reward
from modeling_trrg import TRRGForConditionalGeneration
from processing_trrg import TRRGProcessor
from processing_trrg.prompt_trrg import REQUEST
from tests.helpers.paths import ROOT
from tests.helpers.tiny_processors import radiograph

SMALL = ROOT / "hub_cards" / "trrg-small"

REFERENCE = "Small left effusion. No pneumothorax."


@pytest.mark.parametrize(
    ("report", "labels", "length"),
    [
        ("Left effusion. No pneumothorax.", 1, 4 / 5),
        ("Small left effusion and nothing more at all is there.", 2 / 3, 1 / 2),
        ("Possible effusion. No pneumothorax.", 1 / 2, 4 / 5),  # doubted is another value
        ("Left effusion, edema. No pneumothorax.", 4 / 5, 1),
        ("No effusion. Pneumothorax.", 0, 3 / 5),
        ("", 0, 0),
    ],
)
def test_rewards_by_hand(report: str, labels: float, length: float) -> None:
    columns = {"prompts": ["write"], "reference": [REFERENCE], "trainer_state": None}
    assert label_reward(completions=[report], **columns) == pytest.approx([labels])
    assert length_reward(completions=[report], **columns) == pytest.approx([length])
    messages = [
        [{"role": "user", "content": "?"}, {"role": "assistant", "content": [{"type": "text", "text": report}]}]
    ]
    assert label_reward(completions=messages, **columns) == pytest.approx([labels])
    both = report_reward(labels=0.75, clues=0, length=0.5)(completions=[report], **columns)
    assert both == pytest.approx([0.75 * labels + 0.5 * length])


def test_clue_agreement() -> None:
    reports = ["Edema. No effusion.", "Edema and effusion.", "Clear lungs.", "Edema. Fracture.", ""]
    scores = {"Edema": 0.3, "Pleural Effusion": 0.9, "Fracture": None, "Emphysema": 1.0}
    rewards = clue_reward(completions=reports, clue_scores=[scores] * 5)
    # unsupported edema and denied effusion; unsupported edema; left out; unsupported and left out; left out
    assert rewards == pytest.approx([0, 2 / 3, 0, 0, 0])
    assert clue_reward(completions=["Clear lungs."], clue_scores=[{"Edema": 0.1}]) == [1]


def test_nothing_missing_is_filled_in() -> None:
    reward = report_reward(labels=1, clues=1, length=0)
    with pytest.raises(ValueError, match="the data set has no column 'clue_scores', which this reward needs"):
        reward(prompts=["x"], completions=["x"], reference=["x"])
    with pytest.raises(ValueError, match=r"reference\[1\] is None; expected str"):
        reward(prompts=["x"] * 2, completions=["x"] * 2, reference=["x", None], clue_scores=[{}, {}])
    with pytest.raises(ValueError, match="1 values of reference for 2 completions"):
        length_reward(completions=["x"] * 2, reference=["x"])
    with pytest.raises(TypeError, match="a completion is 7; expected text or a list of messages"):
        completion_text(7)  # type: ignore[arg-type]
    for weights in ((-1, 1, 1), (0, 0, 0)):
        with pytest.raises(ValueError, match="expected numbers from 0, not all of them 0"):
            report_reward(*weights)


def test_grpo_trains_the_small_checkpoint_with_it(tmp_path: Path) -> None:
    trl = pytest.importorskip("trl", reason="needs the grpo extra")
    from datasets import Dataset

    model = TRRGForConditionalGeneration.from_pretrained(SMALL)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    request = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": REQUEST["trrg"]}]}
    row = {"prompt": [request], "image": Image.fromarray(radiograph(256, 256)), "reference": REFERENCE}
    seen: list[list[float]] = []

    def watched(**columns: Any) -> list[float]:
        seen.append(report_reward(labels=0.5, clues=0.2, length=0.3)(**columns))
        return seen[-1]

    trainer = trl.GRPOTrainer(
        model=model, processing_class=TRRGProcessor.from_pretrained(SMALL), reward_funcs=watched,
        train_dataset=Dataset.from_list([row | {"clue_scores": {"Pleural Effusion": 0.9}}] * 4),
        args=trl.GRPOConfig(
            output_dir=str(tmp_path), max_steps=1, per_device_train_batch_size=4, num_generations=4, use_cpu=True,
            bf16=False, max_completion_length=24, learning_rate=1e-3, logging_steps=1, save_strategy="no", report_to=[],
        ),
    )  # fmt: skip
    trainer.train()
    assert len(seen) == 1 and all(0 <= reward <= 1 for batch in seen for reward in batch)
    assert len(set(seen[0])) > 1, "no completion is better than another"
    logged = [entry["reward"] for entry in trainer.state.log_history if "reward" in entry]
    assert logged == pytest.approx([sum(batch) / 4 for batch in seen], abs=1e-6)
    moved = [name for name, value in model.named_parameters() if not torch.equal(before[name], value.detach())]
    assert any("language_model" in name for name in moved) and any("vision_tower" in name for name in moved)
