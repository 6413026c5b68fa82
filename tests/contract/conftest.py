"""Transformers' own common tests, from a checkout of its source: `make test-contract TRANSFORMERS=../transformers`.

Nothing of them is copied here. Without a checkout this folder collects nothing; with one, `reasons.yaml` says which
tests fail and why, and a test that fails without a reason, or passes in spite of one, fails the run.
"""

import fnmatch
import os
from pathlib import Path

import pytest
import yaml

import tests

CHECKOUT = os.environ.get("TRANSFORMERS_CHECKOUT")
if CHECKOUT:
    tests.__path__.append(str(Path(CHECKOUT, "tests").resolve()))  # their `tests.generation` beside our `tests.helpers`
else:
    collect_ignore_glob = ["test_*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    file = Path(__file__).with_name("reasons.yaml")
    reasons = [(name, why) for why, names in yaml.safe_load(file.read_text()).items() for name in names]
    here = {
        f"{item.cls.__name__}.{item.originalname}": item for item in items if Path(__file__).parent in item.path.parents
    }
    for pattern, why in reasons:
        names = fnmatch.filter(here, pattern)
        if here and not names:
            raise pytest.UsageError(f"reasons.yaml: {pattern} is no test of this release")
        for name in names:
            here[name].add_marker(pytest.mark.xfail(reason=why, strict=True))
