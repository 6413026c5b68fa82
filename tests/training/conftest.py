"""Data and finished runs that the tests of training start from."""

import json
import sys
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.helpers.training_helpers import SCRIPTS, make_data, run_script


@pytest.fixture(scope="module")
def one_thread():
    """Child processes have one; sums in another order would differ in the last digit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("training") / "data")


@pytest.fixture(scope="module")
def straight(data, tmp_path_factory):
    """Each stage's 6 steps without interruption: {script: output folder}."""
    folder = tmp_path_factory.mktemp("straight")
    for script, configure in SCRIPTS.items():
        assert run_script(script, configure(data, folder / script)) == 0
    return {script: folder / script for script in SCRIPTS}


@pytest.fixture
def command(monkeypatch, capsys):
    """`command(module, arguments...)` runs a builder as its command line does and returns the manifest it prints."""

    def run(module: ModuleType, *arguments: Any) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", ["build", *map(str, arguments)])
        module.main()
        printed = capsys.readouterr().out
        return json.loads(printed[printed.index("{") :])

    return run


@pytest.fixture
def refused(command):
    """The one line that a refused command ends with."""

    def run(module: ModuleType, *arguments: Any) -> str:
        with pytest.raises(SystemExit) as ended:
            command(module, *arguments)
        assert isinstance(ended.value.code, str)
        assert "\n" not in ended.value.code
        return ended.value.code

    return run
