"""The page of the YAML keys, the configurations for a user's own data, and a stage without the one before it."""

import sys

import pytest

from tests.helpers.paths import ROOT
from training.config.keys import UNITS, page, rows
from training.config.run_config import ConfigError, FinetuneConfig, load_config
from training.run.start import parse_arguments

CONFIGS = ROOT / "training" / "configs"
WITHOUT_UNIT = {"seed", "betas", "weight_decay", "lr", "lr_by_part", "r", "alpha"}


def test_the_page_is_what_the_code_reads():
    assert (ROOT / "training" / "KEYS.md").read_text(encoding="utf-8") == page(), (
        "python -m training.config.keys > training/KEYS.md"
    )


def test_every_key_is_explained_and_every_number_has_its_unit():
    names = set()
    for key, kind, unit, default, meaning in rows():
        name = key.strip("`").rsplit(".", 1)[-1]
        names.add(name)
        assert kind and default and meaning.endswith("."), key
        assert ("integer" in kind or "number" in kind) <= bool(unit or name in WITHOUT_UNIT), f"{key} counts what?"
    assert names >= UNITS.keys() | WITHOUT_UNIT


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("own-data-*.yaml")), ids=lambda path: path.stem)
def test_own_data_starts_from_the_small_checkpoint(config):
    loaded = load_config(FinetuneConfig, config, [])
    assert loaded.model.checkpoint == "hub_cards/trrg-small" and (ROOT / loaded.model.checkpoint).is_dir()
    assert {source.path for source in (*loaded.data.train, *loaded.data.validation)} == {"data/clinic"}


@pytest.mark.parametrize(
    ("config", "more", "made_by"),
    [
        ("trrg-small-stage2", ["model.checkpoint=nope"], "model.checkpoint: folder 'nope' is not there"),
        ("trrg-small-stage2", ["model.checkpoint=."], "folder '.' holds no checkpoint (no config.json)"),
        ("trrg-stage2-iu", [], "training/pretrain.py --config {folder}/trrg-stage1-iu.yaml"),
        ("radialog-stage2-mimic", [], "training/pretrain.py --config {folder}/radialog-stage1-mimic.yaml"),
    ],
)
def test_stage_2_before_stage_1_ends_with_one_line(config, more, made_by, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["finetune.py", "--config", str(CONFIGS / f"{config}.yaml"), *more])
    with pytest.raises(ConfigError) as ended:
        parse_arguments("", FinetuneConfig)
    assert "\n" not in str(ended.value)
    assert made_by.format(folder=CONFIGS) in str(ended.value)
