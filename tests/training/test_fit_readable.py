"""What a model can read is fitted on pictures: the fit itself, what it is shown, and the two commands."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from evaluation import score_abstention
from evaluation.other_pictures import CHANGED, DRAWN
from tests.helpers.checkpoints import save_checkpoint
from training import fit_readable
from training.config.run_config import ModelSection
from training.data.other_pictures import KINDS
from training.phantoms.generate import generate_phantom
from training.run.initial_model import build_config


def test_the_fit_tells_two_clouds_apart_and_a_dead_feature_decides_nothing():
    rng = np.random.default_rng(0)
    near, far = rng.normal(0, 1, (200, 6)), rng.normal([4, 0, 0, 0, 0, 0], 1, (100, 6))
    near[:, 5] = far[:, 5] = 0.1
    weights = fit_readable.fit(near, far)
    scores = [rows @ weights[1:] + weights[0] for rows in (near, far)]
    assert np.mean(scores[0] > 0) > 0.8 and np.mean(scores[1] < 0) > 0.8 and abs(weights[6]) < 1e-6


def test_every_picture_is_drawn_anew_and_alike_from_the_same_seed():
    square = generate_phantom(1, 0, 96).image
    makers = {**KINDS, **{name: lambda rng, s, m=make: m(rng) for name, make in DRAWN.items()}}
    makers |= {name: lambda rng, s, m=make: m(s, rng) for name, make in CHANGED.items()}
    assert not set(KINDS) & set(DRAWN)
    for name, make in makers.items():
        one, same, other = (make(np.random.default_rng(seed), square) for seed in (1, 1, 2))
        assert one.dtype == np.uint8 and one.ndim == 2 and np.array_equal(one, same) and one.std() > 0, name
        assert name in ("negative", "turned by 180") or one.shape != other.shape or (one != other).any(), name
        assert not np.array_equal(one, square), name


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """A folder of studies, 24 to train on and 24 to validate, said to be of patients."""
    folder = tmp_path_factory.mktemp("studies")
    lines = []
    for n in range(48):
        Image.fromarray(generate_phantom(3, n, 64).image).save(folder / f"{n}.png")
        lines.append({"study_id": f"s{n}", "patient_id": f"p{n}", "split": "train" if n % 2 else "validation",
                      "images": [{"path": f"{n}.png", "view": "frontal"}]})  # fmt: skip
    (folder / "studies.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_checkpoint_is_fitted_and_measured(studies, tmp_path, monkeypatch, capsys):
    checkpoint = save_checkpoint(tmp_path / "checkpoint", "trrg")
    arguments = ["--checkpoint", str(checkpoint), "--data", str(studies), "--count", "4", "--out", str(tmp_path / "o")]
    with pytest.raises(SystemExit):
        score_abstention.main(arguments)
    assert "it never abstains" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        score_abstention.main([*arguments, "--data", str(studies), "nowhere"])
    assert "nowhere does not exist" in capsys.readouterr().err
    command = ["fit_readable", str(checkpoint), "--data", str(studies), "--count", "3", "--write"]
    monkeypatch.setattr("sys.argv", [*command, "--false-alarms", "0.001"])
    with pytest.raises(SystemExit):
        fit_readable.main()
    assert "real validation radiographs; a rate of 0.001 needs 1000" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", [*command, "--false-alarms", "0.2"])
    fit_readable.main()
    settings = json.loads((checkpoint / "config.json").read_text())
    assert len(settings["readable_weights"]) == 1 + 5 * settings["vision_hidden_size"]
    assert (checkpoint / "config.json").stat().st_size < 200_000
    assert (
        build_config(ModelSection(checkpoint=str(checkpoint))).readable_weights is None
    )  # of a tower that is trained on
    other = tmp_path / "other" / studies.name
    shutil.copytree(studies, other)
    score_abstention.main([*arguments, "--data", str(studies), str(other), "--resamples", "20"])
    result = json.loads((tmp_path / "o" / "abstention.json").read_text())
    held = [n for n in range(0, 48, 2) if fit_readable.is_measured(f"p{n}")]
    assert [result["readable"][str(folder)]["pictures"] for folder in (studies, other)] == [len(held)] * 2
    assert set(DRAWN) <= set(result["others"]) and result["others"]["radiograph, negative"]["pictures"] == 4
    row = result["others"]["hand"]
    assert row["pictures"] + row["refused"] == 4 and 0 <= row["auroc"]["low"] <= row["auroc"]["value"] <= 1
    score_abstention.main([*arguments, "--count", "1", "--resamples", "0"])
    result = json.loads((tmp_path / "o" / "abstention.json").read_text())
    assert result["readable"][str(studies)]["false_alarms"]["low"] is None
