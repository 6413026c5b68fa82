"""Install as strangers do, without the lock, and write one report each: `make publish-check`.

    .venv/bin/python -m hub_cards.publish_check

Three clean environments outside of the checkout, one after the other: `pip install .` (the wheel), the Space's
requirements, and those of the endpoint handler. Each loads the published folder and reports on a synthetic phantom.
Takes some minutes, since each downloads PyTorch.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from hub_cards.publish import REPOSITORY, assemble, assemble_space
from training.phantoms.generate import generate_phantom

CHECKPOINT = REPOSITORY / "hub_cards" / "trrg-small"
FROM_THE_WHEEL = """
from transformers import AutoModelForImageTextToText, AutoProcessor
import modeling_trrg, processing_trrg

processor = AutoProcessor.from_pretrained("published", trust_remote_code=True)
model = AutoModelForImageTextToText.from_pretrained("published", trust_remote_code=True)
inputs = processor(images="phantom.png", return_tensors="pt")
generated = model.generate(**inputs)
print(processor.post_process_report(generated, inputs)[0].text)
"""
FROM_THE_SPACE = """
import base64, sys
from pathlib import Path
sys.path.insert(0, "space")
import app

image = base64.b64encode(Path("phantom.png").read_bytes()).decode()
print(app.report_study([f"data:image/png;base64,{image}"])["text"])
"""
FROM_THE_HANDLER = """
import base64, sys
from pathlib import Path
sys.path.insert(0, "published")
from handler import EndpointHandler

image = base64.b64encode(Path("phantom.png").read_bytes()).decode()
print(EndpointHandler("published")({"inputs": {"images": [image]}})["text"])
"""


def run(folder: Path, *command: object) -> str:
    """Standard output of a command that sees neither this project nor the network's models.

    Raises:
        SystemExit: it failed; with the end of what it wrote.
    """
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "home"), "TRRG_CHECKPOINT": "published"}
    words = list(map(str, command))
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(words)[:200]} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def main() -> None:
    """Install and run each of the three ways in an environment of its own.

    Raises:
        SystemExit: a way failed to install, or wrote no report.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        assemble(CHECKPOINT, folder / "published")
        assemble_space(folder / "space")
        Image.fromarray(generate_phantom(seed=0, index=0, size=512).image).save(folder / "phantom.png")
        ways: dict[str, tuple[list[object], str]] = {
            "pip install .": ([REPOSITORY], FROM_THE_WHEEL),
            "the Space's requirements": (["--requirement", "space/requirements.txt"], FROM_THE_SPACE),
            "the handler's requirements": (["--requirement", "published/requirements.txt"], FROM_THE_HANDLER),
        }
        for way, (packages, script) in tqdm(ways.items(), desc="clean environments"):
            python = folder / "venv" / "bin" / "python"
            run(folder, sys.executable, "-m", "venv", "venv")
            run(folder, python, "-m", "pip", "install", "--quiet", *packages)
            versions = run(
                folder, python, "-c", "import torch, transformers as t; print(torch.__version__, t.__version__)"
            )
            report = run(folder, python, "-c", script).strip()
            if not report:
                raise SystemExit(f"{way}: the report is empty")
            torch_version, transformers_version = versions.split()
            print(
                f"{way}: torch {torch_version}, transformers {transformers_version}. Report: {' '.join(report.split())}"
            )
            shutil.rmtree(folder / "venv")
    print("Research only, never for clinical use.")


if __name__ == "__main__":
    main()
