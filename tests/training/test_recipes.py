"""The recipes: each line names scripts, modules, configurations and options that exist. Nothing is trained here."""

import argparse
import re
import runpy
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from evaluation.predictions import missing_paths
from tests.helpers.paths import ROOT
from training.config.run_config import FinetuneConfig, PretrainConfig, load_config

RECIPES = sorted((ROOT / "training" / "recipes").glob("*.sh"))
STAGES = {"training/pretrain.py": PretrainConfig, "training/finetune.py": FinetuneConfig}
GIVEN = {"jpg": "mimic-cxr-jpg", "reports": "mimic-cxr-reports", "chat_model": "a-chat-model"}


class ParsedError(Exception):
    """The command's arguments are legal; it goes no further."""


def commands(recipe: Path) -> list[list[str]]:
    """Words of every line that runs something of ours, comments that show a command too."""
    lines = [line.strip().removeprefix("#").strip() for line in recipe.read_text(encoding="utf-8").splitlines()]
    given = GIVEN | dict(re.findall(r"^(model)=(\S+)$", "\n".join(lines), re.MULTILINE))
    ours = [line for line in lines if line.startswith(("python ", "accelerate "))]
    return [shlex.split(re.sub(r"\$(\w+)", lambda name: given[name[1]], line)) for line in ours]


def parse_only(target: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a command of ours up to the point where its arguments are parsed."""
    parse = argparse.ArgumentParser.parse_args

    def stop(parser: argparse.ArgumentParser, *arguments: object, **kwargs: object) -> None:
        parse(parser, *arguments, **kwargs)
        raise ParsedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    monkeypatch.setattr(missing_paths, "PATHS", ())  # nothing of the recipe has been made
    is_module = target[0] == "-m"
    name, arguments = (target[1], target[2:]) if is_module else (target[0], target[1:])
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with pytest.raises(ParsedError):
        if is_module:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(str(ROOT / name), run_name="__main__")


def test_every_system_has_its_recipe() -> None:
    assert {recipe.stem for recipe in RECIPES} == {
        "maira1", "maira1-small", "radialog", "radialog-small", "trrg", "trrg-small"
    }  # fmt: skip


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_every_line_of_a_recipe_is_legal(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run(["bash", "-n", recipe], check=True)
    found = commands(recipe)
    assert len(found) >= 6
    for words in found:
        target = words[1:]
        if words[0] == "accelerate":
            assert words[1] == "launch"
            script = next(place for place, word in enumerate(words) if word.endswith(".py"))
            launch, target = words[2:script], words[script:]
            options = dict(zip(launch[::2], launch[1::2], strict=True))
            assert set(options) <= {"--config_file", "--num_processes"}
            assert "--config_file" not in options or (ROOT / options["--config_file"]).is_file()
        with monkeypatch.context() as patch:
            parse_only(target, patch)
        if "--config" in target:
            place = target.index("--config")
            stage = STAGES.get(target[0], PretrainConfig)
            load_config(stage, ROOT / target[place + 1], [])


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_a_recipe_reads_what_it_wrote(recipe: Path) -> None:
    """Checkpoints and data of a line come from a line before it."""
    written = {"hub_cards/trrg-small"}
    for words in commands(recipe):
        options = dict(pairwise(words))
        config = options.get("--config")
        if config and any(script in words for script in STAGES):
            stage = next(STAGES[word] for word in words if word in STAGES)
            run = load_config(stage, ROOT / config, [])
            needs = [
                run.model.checkpoint,
                run.data.paraphrases,
                *(s.path for s in [*run.data.train, *run.data.validation]),
            ]
            gives = f"{run.run.output_dir}/model"
        else:
            needs, gives = [options.get("--checkpoint"), options.get("--data")], options.get("--out")
        for need in needs:
            assert need is None or any(need == one or need.startswith(f"{one}/") for one in written), need
        written |= {gives} if gives else set()
