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
def data_dir_or_none() -> Path | None:
    """Real X-rays and reports (never part of the repository): $TRRG_DATA, or ../shared/data beside the checkout."""
    path = Path(os.environ.get("TRRG_DATA", ROOT.parent / "shared" / "data"))
    return path if (path / "README.md").exists() else None


@pytest.fixture(scope="session")
def data_dir(data_dir_or_none: Path | None) -> Path:
    """`data_dir_or_none`, for tests that need it."""
    if data_dir_or_none is None:
        pytest.skip("no real data at $TRRG_DATA or ../shared/data; set TRRG_DATA to run this test")
    return data_dir_or_none


@pytest.fixture
def tiny_config() -> Any:
    """`tiny_config("trrg" | "maira1" | "radialog", **overrides)` -> a TRRGConfig that runs in milliseconds."""
    return lambda system="trrg", **overrides: TRRGConfig(**{**TINY[system], **overrides})
