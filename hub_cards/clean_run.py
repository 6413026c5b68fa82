"""Load a folder or a repository in a process that cannot import this project (`clean_process.py`)."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from huggingface_hub import get_token
from safetensors.torch import load_file

from hub_cards.push import without_token


def emulate_hub_cache(folder: Path, home: Path) -> str:
    """Lay `folder` out as the Hub's download cache under `home` and return the repository's name."""
    commit = "0" * 39 + "1"
    repository = home / "hub" / f"models--trrg--{folder.name}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit, encoding="utf-8")
    shutil.copytree(folder, repository / "snapshots" / commit)
    return f"trrg/{folder.name}"


def run_clean_process(
    source: str, home: Path, results: Path, *arguments: str, online: bool = False
) -> dict[str, torch.Tensor]:
    """Run clean_process.py on `source` and return its tensors.

    Raises:
        RuntimeError: it failed; the message carries the end of what it wrote.
    """
    site = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    script = Path(__file__).resolve().parent / "clean_process.py"
    command = [sys.executable, "-I", "-S", str(script), source, "--results", str(results), *arguments, "--site", *site]
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": str(int(not online))}
    for name in ("HF_HUB_CACHE", "HF_MODULES_CACHE", "TRANSFORMERS_CACHE"):
        environment.pop(name, None)
    if online and (token := get_token()):  # it lies in the home that is not this one
        environment["HF_TOKEN"] = token
    done = subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"loading {source} in a clean process failed:\n{without_token(done.stderr)[-4000:]}")
    return load_file(results / "outputs.safetensors")
