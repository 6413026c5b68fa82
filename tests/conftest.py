"""Tiny models, processors and the place of the real data, shared by all tests. No network, no GPU."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from configuration_trrg import TRRGConfig
from tests.helpers.models import TINY
from tests.helpers.paths import ROOT

os.environ.setdefault("HF_HUB_OFFLINE", "1")
torch.set_num_threads(2)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real X-rays and reports (never part of the repository): $TRRG_DATA, or ../shared/data beside the checkout."""
    path = Path(os.environ.get("TRRG_DATA", ROOT.parent / "shared" / "data"))
    if not (path / "README.md").exists():
        pytest.skip(f"no real data at {path}; set TRRG_DATA to run this test")
    return path


@pytest.fixture
def tiny_config() -> Any:
    """`tiny_config("trrg" | "maira1" | "radialog", **overrides)` -> a TRRGConfig that runs in milliseconds."""
    return lambda system="trrg", **overrides: TRRGConfig(**{**TINY[system], **overrides})
