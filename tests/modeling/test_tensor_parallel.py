"""Two processes that hold half of each of the language model's weights, its tied head too."""

import os
import subprocess
import sys

import pytest

from modeling_trrg import TRRGForConditionalGeneration
from tests.helpers.models import TINY_TEXT
from tests.helpers.paths import ROOT

SCRIPT = """
import sys
import torch
from modeling_trrg import TRRGForConditionalGeneration
from tests.helpers.models import studies
folder = sys.argv[1]
whole = TRRGForConditionalGeneration.from_pretrained(folder)
halves = TRRGForConditionalGeneration.from_pretrained(folder, tp_plan="auto")
assert len(halves.lm_head.weight.to_local()) == len(whole.lm_head.weight) // 2
inputs = studies(whole.config, views=(1, 2))
with torch.no_grad():
    torch.testing.assert_close(halves(**inputs).logits, whole(**inputs).logits, rtol=1e-4, atol=1e-4)
    texts = [m.generate(**inputs, max_new_tokens=4, do_sample=False) for m in (halves, whole)]
assert torch.equal(*texts)
"""


@pytest.mark.slow
@pytest.mark.parametrize("tied", [False, True])
def test_halves_of_a_model_compute_what_the_whole_does(tiny_config, tmp_path, tied):
    config = tiny_config("trrg", text_config={**TINY_TEXT, "tie_word_embeddings": tied})
    TRRGForConditionalGeneration(config).save_pretrained(tmp_path / "model")
    (tmp_path / "halves.py").write_text(SCRIPT, encoding="utf-8")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launcher, tmp_path / "halves.py", tmp_path / "model"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
