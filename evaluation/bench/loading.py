"""Importing, loading, and the demo a second time: each in a process of its own, in CPU time of that process."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from PIL import Image
from transformers import AutoConfig, AutoModelForCausalLM

from evaluation.bench.reports import SMALL
from evaluation.bench.turns import Row
from modeling_trrg import TRRGForConditionalGeneration
from training.phantoms.generate import generate_phantom

ROOT = SMALL.parents[1]
OURS = "from modeling_trrg import TRRGForConditionalGeneration; from processing_trrg import TRRGProcessor"
LLAVA = "from transformers import LlavaForConditionalGeneration, LlavaProcessor"
TOLD = "; import time; print(time.process_time())"


def cpu_seconds(*command: str) -> float:
    """Of a Python process, which ends with them on its last line."""
    paths = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *command], env=paths, cwd=ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def rows(quick: bool) -> Iterator[Row]:
    """`quick` starts no process: each takes seconds."""
    row = Row("loading", "import", "LLaVA's model and processor", "<= 1.0",
              "torch and Transformers are most of it, and both import them")  # fmt: skip
    if not quick:
        turns = [(1000 * cpu_seconds("-c", OURS + TOLD), 1000 * cpu_seconds("-c", LLAVA + TOLD)) for _ in range(4)][1:]
        row.measured(*map(list, zip(*turns, strict=True)))
    yield row
    with tempfile.TemporaryDirectory() as folder:
        model = TRRGForConditionalGeneration.from_pretrained(SMALL)
        size = sum(p.numel() for p in model.parameters())
        width = model.config.text_config.hidden_size
        layers = round((size - 2 * 1000 * width) / (16 * width**2))  # a layer of four squares and three of four times
        plain = AutoConfig.for_model(
            "llama", vocab_size=1000, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
            num_attention_heads=4, num_key_value_heads=4,
        )  # fmt: skip
        AutoModelForCausalLM.from_config(plain).save_pretrained(folder)
        row = Row("loading", "from_pretrained, small checkpoint", "a plain Llama of its size", "<= 1.5",
                  "three networks and a clue list in place of one: more modules, whose weights timm draws, and a "
                  "configuration whose lists are checked number by number")  # fmt: skip
        ours = partial(TRRGForConditionalGeneration.from_pretrained, SMALL)
        yield row.by_turns(ours, partial(AutoModelForCausalLM.from_pretrained, folder), 0 if quick else 3)
    yield demo(quick)


def demo(quick: bool) -> Row:
    """`make demo STUDY=x` when the published folder is there already, beside what it says that the report took."""
    row = Row("loading", "make demo STUDY=x, second time", "its report alone", "<= 5 s in all",
              "imports of torch, Transformers and matplotlib, and loading, are paid for by one report")  # fmt: skip
    if quick:
        return row
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder, "study.png")
        Image.fromarray(generate_phantom(3, 1, size=512).image).save(study)
        call = f"from hub_cards import demo; demo.main([{str(study)!r}, '--out', {folder + '/out'!r}])" + TOLD
        seconds = [cpu_seconds("-c", call) for _ in range(2)][1]
        report = json.loads(Path(folder, "out", "report.json").read_text(encoding="utf-8"))["seconds"]
    row.measured([1000 * seconds], [1000 * report])
    row.spread = None  # one of each
    return row
