"""From a builder's shards through the data path into a model, measured."""

import json
import sys

from tests.helpers.fake_trees import picture, r2gen_annotation
from tests.helpers.training_helpers import make_data, stage_1, write_config
from training.builders import iu
from training.measure import data_path


def test_training_takes_the_shards_and_the_data_path_is_measured(tmp_path, monkeypatch, capsys):
    annotation = r2gen_annotation(tmp_path / "annotation.json", [(f"CXR{i}_IM-1", "train") for i in range(4)])
    for i in range(4):
        for view in (0, 1):
            picture(tmp_path / "images" / f"CXR{i}_IM-1" / f"{view}.png", 2 * i + view)
    build = ["iu", "--annotation", annotation, "--images", tmp_path / "images", "--out", tmp_path / "iu"]
    monkeypatch.setattr(sys, "argv", list(map(str, build)))
    iu.main()

    config = stage_1(make_data(tmp_path / "data"), tmp_path / "run")
    config["data"] |= {"train": [{"path": str(tmp_path / "iu")}], "validation": []}
    config["optimizer"] |= {"batch_size": 4, "micro_batch_size": 4, "block_size": 4}
    file = write_config(config, tmp_path / "config.yaml")
    monkeypatch.setattr(sys, "argv", ["data_path", "--config", str(file), "--steps", "2", "--decoded", "3"])
    capsys.readouterr()
    data_path.main()
    printed = capsys.readouterr().out
    measured = json.loads(printed[printed.index("{") :])
    assert min(measured[f"{part}_studies_per_s"] for part in ("decode_once", "feed", "train")) > 0
    assert measured["feed_over_train"] > 0
