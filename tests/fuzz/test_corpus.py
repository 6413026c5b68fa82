"""Every input that fuzzing ever found runs here, and a few new ones of each kind (`make fuzz` runs more)."""

import pytest

from tests.fuzz.run import CORPUS, bounded, fuzz
from tests.fuzz.targets import TARGETS

FOUND = sorted(CORPUS.glob("*/*.fuzz"))


@pytest.mark.parametrize("file", FOUND, ids=[f"{file.parent.name}-{file.stem}" for file in FOUND])
def test_found_inputs_are_read_or_refused(file):
    bounded(TARGETS[file.parent.name].run, file.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_new_inputs_are_read_or_refused(name, tmp_path):
    counts = fuzz(name, seconds=0.01, first=1, last_input=tmp_path / "input")
    assert counts["read"] > 10, "hardly an input is read: the target tests little"
    assert counts["refused"] > 0 or name == "texts"
