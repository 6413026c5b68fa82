"""Test with other releases than the locked ones: the newest and the oldest that pyproject.toml allows.

    make test-latest
    make test-oldest

The releases are laid over .venv in an environment of their own (.venv-latest, .venv-oldest), made anew each time. There
the README's Python must write the report that the locked releases write, and the demo, the proof of a published folder
and the tests of model, generation and training must pass.

Exit status: 0; 1 where something failed. Where CI is set, releases that cannot be downloaded are reported and are no
failure; ranges that contradict each other always are.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
LAID_OVER = ("transformers", "huggingface-hub", "peft", "accelerate", "datasets", "timm")
TESTS = (
    "test_modeling.py", "test_loading.py", "test_processing_saved.py", "test_generate.py",
    "test_pipeline.py", "test_laws.py", "test_training.py",
)  # fmt: skip


class DownloadError(RuntimeError):
    """Releases that the package index does not hand out."""


def requirements(which: str) -> list[str]:
    """What pip is asked for: the ranges of pyproject.toml ("latest"), or their lower bounds ("oldest")."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    found: dict[str, str] = {}
    for requirement in map(Requirement, [*project["dependencies"], *extras["train"], *extras["metrics"]]):
        name = requirement.name.lower().replace("_", "-")
        if name in LAID_OVER:
            (floor,) = (spec.version for spec in requirement.specifier if spec.operator == ">=")
            found[name] = str(requirement) if which == "latest" else f"{name}=={floor}"
    return [found[name] for name in LAID_OVER]


def lay_over(which: str) -> Path:
    """Make the environment and return its Python.

    Raises:
        DownloadError: pip cannot get a release.
        SystemExit: no releases fit together, or one cannot be installed.
    """
    folder = ROOT / f".venv-{which}"
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = (folder / "lib").glob("python*/site-packages")
    base = next(path for path in sys.path if path.endswith("site-packages"))
    (site / "base.pth").write_text(f"import site; site.addsitedir({base!r})\n", encoding="utf-8")
    python = folder / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--upgrade", *requirements(which)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "ResolutionImpossible" in done.stderr:
        raise SystemExit(f"pyproject.toml's ranges do not fit together:\n{done.stderr[-3000:]}")
    if done.returncode != 0 and re.search(r"connection|timed out|timeout|HTTP error|proxy", done.stderr, re.IGNORECASE):
        raise DownloadError(done.stderr[-3000:])
    if done.returncode != 0:
        raise SystemExit(f"pip cannot install {', '.join(requirements(which))}:\n{done.stderr[-3000:]}")
    return python


def step(title: str, *command: object) -> str:
    """Run a command of the check, show its time and the end of what it printed, and return its standard output.

    Raises:
        SystemExit: it failed.
    """
    start = time.perf_counter()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    lines = done.stdout.strip().splitlines()
    print(f"{title}: {time.perf_counter() - start:.0f} s. {lines[-1] if lines else ''}", flush=True)
    if done.returncode != 0:
        raise SystemExit(f"{title} failed:\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}")
    return done.stdout


def readme_python() -> str:
    """The README's first Python block."""
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    return block[1]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=("latest", "oldest"))
    which = parser.parse_args(arguments).which

    start = time.perf_counter()
    try:
        python = lay_over(which)
    except DownloadError as error:
        message = f"NOT TESTED with the {which} releases: they could not be downloaded.\n{error}"
        if os.environ.get("CI"):
            print(message)
            return
        raise SystemExit(message) from None
    print(f"{time.perf_counter() - start:.0f} s to install {', '.join(requirements(which))}", flush=True)
    versions = "; ".join(f"print('{name}', importlib.metadata.version('{name}'))" for name in LAID_OVER)
    print(step("Releases", python, "-c", f"import importlib.metadata; {versions}"), end="")

    out = Path("demo") / which
    step("Demo", python, "-m", "hub_cards.demo", "--out", out)
    snippet = readme_python().replace('"demo/', f'"{out}/')
    locked, found = (step(f"README's Python, {name}", binary, "-c", snippet) for name, binary in
                     (("locked", sys.executable), (which, python)))  # fmt: skip
    if locked != found:
        raise SystemExit(f"The README's Python writes another report. Locked: {locked!r}, {which}: {found!r}")
    step("Published folder", python, "hub_cards/publish.py", "hub_cards/trrg-small", "--out", out / "published")
    tests = [next((ROOT / "tests").rglob(name)) for name in TESTS]
    step("Tests", python, "-m", "pytest", "-n", "2", "-q", *tests)
    print(f"The {which} releases pass after {time.perf_counter() - start:.0f} s.")


if __name__ == "__main__":
    main()
