"""Every input that fuzzing ever found runs here, and a few new ones of each kind (`make fuzz` runs more)."""

import time

import pytest
from hypothesis import strategies as st

from tests.fuzz.run import CORPUS, bounded, fuzz
from tests.fuzz.targets import TARGETS, Target

FOUND = sorted(CORPUS.glob("*/*.fuzz"))


@pytest.mark.parametrize("file", FOUND, ids=[f"{file.parent.name}-{file.stem}" for file in FOUND])
def test_found_inputs_are_read_or_refused(file):
    bounded(TARGETS[file.parent.name].run, file.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_new_inputs_are_read_or_refused(name, tmp_path):
    counts = fuzz(name, seconds=0, first=1, last_input=tmp_path / "input", least=200)
    # hypothesis draws on the constants of all modules that are loaded, so the count differs with what ran before
    assert counts["read"] >= 5, "hardly an input is read: the target tests little"
    assert counts["refused"] > 0 or name == "texts"


@pytest.mark.parametrize("fails", [False, True])
def test_fuzzing_ends_at_its_time_in_the_midst_of_a_round(fails, tmp_path, monkeypatch):
    def slow(data):
        time.sleep(0.01)
        if fails and len(data) > 4:
            raise ZeroDivisionError
        return True

    monkeypatch.setitem(TARGETS, "texts", Target(lambda: st.binary(min_size=5 if fails else 0), slow))
    start = time.monotonic()
    if fails:
        with pytest.raises(ZeroDivisionError):
            fuzz("texts", seconds=0.2, first=1, last_input=tmp_path / "input")
        assert len((tmp_path / "input").read_bytes()) > 4
    else:
        assert 0 < fuzz("texts", seconds=0.2, first=1, last_input=tmp_path / "input")["read"] < 100
    assert time.monotonic() - start < 1.5  # a round of 200 would take 2 s
