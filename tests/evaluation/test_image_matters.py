"""image_matters.py through its entry point, with a tiny untrained model and SYNTHETIC phantoms."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from evaluation import image_matters
from evaluation.image_matters import CONDITIONS, IMAGES, ChangedImages, other_patients, scores_of
from evaluation.predictions.study_sources import PhantomStudies
from processing_trrg.report_trrg import UNREADABLE
from tests.helpers.checkpoints import read, save_checkpoint
from tests.helpers.tiny_processors import tiny_processor
from training.data.study import Study


def run(out: Path, checkpoint: Path, *more: object) -> dict[str, dict]:
    arguments = ["--checkpoint", checkpoint, "--phantoms", 2, "--out", out, "--resamples", 10, *more]
    image_matters.main([*map(str, arguments), "--", "--max-new-tokens", "4"])
    return json.loads((out / "metrics.json").read_text())["conditions"]


def test_a_row_for_every_condition_and_a_second_run_writes_nothing(tmp_path, capsys):
    folder = save_checkpoint(tmp_path / "checkpoint", "trrg")
    settings = json.loads((folder / "config.json").read_text())
    settings |= {"readable_weights": [0.0] * (1 + 5 * settings["vision_hidden_size"]), "readable_threshold": 1.0}
    (folder / "config.json").write_text(json.dumps(settings))  # it can read nothing
    results = run(tmp_path / "out", folder)
    assert set(results) == set(CONDITIONS)
    real = results["real"]
    assert real["agreement_f1"]["value"] in (0, 1) and real["same_text"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    told = {
        name: [line["prediction"] for line in read(tmp_path / "out" / name / "predictions.jsonl")] for name in results
    }
    assert not any(UNREADABLE in texts for texts in told.values())
    assert len(set(told["blank"])) <= len(set(told["real"])) and told["turned"] != told["real"] != told["oracle_clues"]
    table = (tmp_path / "out" / "table.md").read_text()
    assert table.count("\n| ") == len(CONDITIONS) + 1 and "bootstrap:patients-10" in table
    capsys.readouterr()
    assert run(tmp_path / "out", folder) == results
    assert capsys.readouterr().out.count("is complete") == len(CONDITIONS)


def test_clue_conditions_are_left_out_where_no_clues_are_read(tmp_path):
    folder = save_checkpoint(tmp_path / "checkpoint", "maira1")
    assert set(run(tmp_path / "out", folder)) == set(IMAGES)
    assert set(run(tmp_path / "out", folder, "--conditions", "noise")) == {"real", "noise"}
    with pytest.raises(ValueError, match="this checkpoint reads none"):
        run(tmp_path / "two", folder, "--conditions", "oracle_clues")


def test_what_the_model_gets_in_each_condition():
    source, processor = PhantomStudies(4, 1, 64), tiny_processor().image_processor
    seen = {name: ChangedImages(source, processor, name).open_image(1, 0).square for name in IMAGES}
    assert not seen["blank"].any() and np.array_equal(seen["turned"], np.rot90(seen["real"]))
    assert len({square.tobytes() for square in seen.values()}) == len(seen)
    assert np.array_equal(seen["noise"], ChangedImages(source, processor, "noise").open_image(1, 0).square)
    changed = ChangedImages(source, processor, "another")
    lender = other_patients(source.records)[1]
    assert np.array_equal(seen["another"], ChangedImages(source, processor, "real").open_image(lender, 0).square)
    assert changed.records[1].labels == source.records[1].labels
    assert changed.records[1].images == source.records[lender].images


@pytest.mark.parametrize("counts", [(1, 1), (1, 2, 3), (4, 1, 1, 2), (5, 5)])
def test_every_study_is_given_once_and_to_another_patient(counts):
    studies = [Study(f"{p}-{n}", f"p{p}", None) for p, count in enumerate(counts) for n in range(count)]
    given = other_patients(studies)
    assert Counter(given) == Counter(range(len(studies)))
    assert all(studies[there].patient_id != study.patient_id for study, there in zip(studies, given, strict=True))


def test_a_patient_with_most_studies_cannot_exchange_them():
    studies = [Study(str(n), "a" if n < 3 else "b", None) for n in range(5)]
    with pytest.raises(ValueError, match="patient 'a' has 3 of 5 studies"):
        other_patients(studies)


def line(number: int, text: str, edema: int | None) -> dict:
    return {"study_id": str(number), "patient_id": str(number // 2), "prediction": text, "labels": {"Edema": edema}}


def test_scores_that_can_be_done_in_the_head():
    real = [line(0, "Pulmonary edema.", 1), line(1, "No edema.", 0), line(2, "Pulmonary edema.", None)]
    worse = [line(0, "No edema.", 1), line(1, "No edema.", 0), line(2, "Rib fracture with edema.", None)]
    best, other = scores_of(real, real, 0), scores_of(worse, real, 0)
    assert best["macro_f1"]["value"] == best["agreement_f1"]["value"] == 1 and best["distinct"]["value"] == 2
    assert other["micro_f1"]["value"] == 0 and other["same_text"]["value"] == pytest.approx(1 / 3)
    # agreed: no finding of the second, edema of the third; only here: no finding of the first, the fracture
    assert other["agreement_f1"]["value"] == pytest.approx(4 / 7)
    assert other["words"]["value"] == pytest.approx(8 / 3) and other["commonest"]["value"] == pytest.approx(2 / 3)
