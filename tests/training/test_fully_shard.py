"""Sharded weights (FSDP2): two gloo processes, wrapped by Accelerate's own code, train and write as one process."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import yaml
from accelerate import Accelerator, DistributedType
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from safetensors.torch import load_file
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from configuration_trrg import TRRGConfig
from modeling_trrg import TRRGForConditionalGeneration, TRRGForContrastivePretraining
from tests.helpers.models import TINY, stage1_inputs, studies
from tests.helpers.paths import ROOT
from training.config.run_config import LoraSection
from training.finetune import language_loss
from training.pretrain import contrastive_loss
from training.run.sharded_weights import (
    in_one_piece,
    layers_to_shard,
    make_shardable,
    open_methods,
    shares,
    whole_state,
)
from training.run.trained_parts import add_lora, freeze, parameter_groups, without_lora

PARTS = ["clue_encoder", "image_projection", "clue_projection", "multi_modal_projector", "report_projection"]
RUNS = {
    "stage 1": ("trrg", ["vision_tower", "clue_encoder", "image_projection", "clue_projection", "logit_scale"]),
    "stage 2, LoRA": ("trrg", PARTS),
    "MAIRA-1": ("maira1", ["multi_modal_projector", "language_model"]),
}
STEPS = 3


class FakeAccelerator(SimpleNamespace):
    """What Accelerate's FSDP2 code and ours read of an Accelerator, which itself refuses to shard on a CPU."""

    def get_state_dict(self, model: torch.nn.Module) -> dict[str, torch.Tensor]:
        if not dist.is_initialized():
            return model.state_dict()
        self.distributed_type, self.is_fsdp2 = DistributedType.FSDP, True
        return Accelerator.get_state_dict(self, model)


def shard(model: torch.nn.Module) -> tuple[torch.nn.Module, FakeAccelerator]:
    """Wrap `model` as `accelerate launch --config_file training/accelerate/fsdp2_8gpu.yaml` would, over the CPU."""
    settings = yaml.safe_load((ROOT / "training" / "accelerate" / "fsdp2_8gpu.yaml").read_text())["fsdp_config"]
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=settings["fsdp_version"],
        auto_wrap_policy=settings["fsdp_auto_wrap_policy"],
        reshard_after_forward=settings["fsdp_reshard_after_forward"],
        state_dict_type=settings["fsdp_state_dict_type"],
        cpu_ram_efficient_loading=settings["fsdp_cpu_ram_efficient_loading"],
        transformer_cls_names_to_wrap=layers_to_shard(model),
    )
    accelerator = FakeAccelerator(
        state=SimpleNamespace(fsdp_plugin=plugin),
        torch_device_mesh=init_device_mesh("cpu", (2,), mesh_dim_names=("fsdp",)),
        parallelism_config=SimpleNamespace(fsdp_dim_names=("fsdp",)),
        device=torch.device("cpu"), mixed_precision="no", is_main_process=dist.get_rank() == 0,
        process_index=dist.get_rank(), num_processes=2,
    )  # fmt: skip
    return fsdp2_prepare_model(accelerator, model), accelerator


def global_batch(name: str, config: TRRGConfig) -> dict[str, torch.Tensor]:
    """Four studies."""
    torch.manual_seed(5)
    if name == "stage 1":
        return {**stage1_inputs("trrg"), "sentence_targets": torch.full((4, 4), -100)}
    batch = studies(config, views=(1, 1, 1, 1), text=(9, 7, 8, 9))
    labels = batch["input_ids"].clone()
    labels[:, :-4] = -100
    labels[1, -2:] = -100  # processes have different numbers of target tokens
    return {**batch, "labels": labels}


def half(batch: dict[str, torch.Tensor], rank: int) -> dict[str, torch.Tensor]:
    """Rows of one process; the clue sentences are the same on both."""
    cut = {
        key: value if key.startswith(("clue_input", "clue_att", "negative")) else value[2 * rank : 2 * rank + 2]
        for key, value in batch.items()
    }
    if "sentence_study" in cut:
        cut["sentence_study"] = cut["sentence_study"] - 2 * rank
    return cut


def train(name: str, out: Path) -> list[float]:
    """Three optimizer steps, a look at the clues, a report, an export; the losses."""
    system, trained = RUNS[name]
    torch.manual_seed(0)
    config = TRRGConfig(**TINY[system])
    model = (TRRGForContrastivePretraining if name == "stage 1" else TRRGForConditionalGeneration)(config)
    model.model.vision_tower.to(memory_format=torch.channels_last)
    if "LoRA" in name:
        add_lora(model, LoraSection(r=2, alpha=4, dropout=0.0, target_modules=["q_proj", "lm_head"]))
    freeze(model, trained)
    world, rank = (2, dist.get_rank()) if dist.is_initialized() else (1, 0)
    accelerator = FakeAccelerator(process_index=rank, num_processes=world)
    if world == 2:
        make_shardable(model)
        model, accelerator = shard(model)
        assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
    open_methods(model)
    optimizer = torch.optim.AdamW(parameter_groups(model, 1e-2, {}, 0.01), lr=1e-2)
    batch = global_batch(name, config)
    mine = half(batch, rank) if world == 2 else batch
    compute, mean_targets = contrastive_loss, None
    if name != "stage 1":
        compute, mean_targets = language_loss, (batch["labels"][:, 1:] != -100).sum() / world
    losses, norms = [], []
    for _ in range(STEPS):
        loss, _ = compute(model, dict(mine), mean_targets)
        loss.backward()
        norms.append(float(in_one_piece(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0))))
        optimizer.step()
        optimizer.zero_grad()
        total = loss.detach().clone()
        if world == 2:
            dist.all_reduce(total)
        losses.append(float(total) / world)
    model.eval()
    seen = []
    if system == "trrg":  # three studies: the second process has one of its own and one that fills up
        images = {k: v for k, v in batch.items() if k.startswith(("clue_", "pix")) and k != "clue_targets"}
        for rows, real in shares(accelerator, range(3), batch_size=2):
            scores = model.read_study(**{**images, "pixel_values": images["pixel_values"][rows]}).clue_scores
            seen += scores[:real].tolist()
    if name != "stage 1":
        prompt = {k: v for k, v in mine.items() if k != "labels"}
        reports = model.generate(**prompt, max_new_tokens=3 + 2 * rank, do_sample=False, synced_gpus=world == 2)
        assert reports.shape[0] == len(mine["input_ids"])
    state = whole_state(accelerator, model)
    if rank == 0:
        if "LoRA" in name:
            state = without_lora(model, state)
        model.save_pretrained(out / name, state_dict=state)
    (out / f"{name} {rank}.json").write_text(json.dumps({"losses": losses, "norms": norms, "seen": seen}))
    return losses


def process(rank: int, folder: str) -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for name in RUNS:
        train(name, Path(folder))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharded")
    torch.multiprocessing.spawn(process, (str(folder),), nprocs=2)
    return folder


@pytest.mark.parametrize("name", RUNS)
def test_sharded_weights_learn_see_and_are_saved_like_whole_ones(two_processes, tmp_path, name):
    torch.set_default_dtype(torch.float64)
    try:
        train(name, tmp_path)
    finally:
        torch.set_default_dtype(torch.float32)
    whole = json.loads((tmp_path / f"{name} 0.json").read_text())
    pieces = [json.loads((two_processes / f"{name} {rank}.json").read_text()) for rank in range(2)]
    assert whole["losses"][0] != pytest.approx(whole["losses"][-1], abs=1e-3)
    for piece in pieces:
        assert piece["losses"] == pytest.approx(whole["losses"], abs=1e-6)
        assert piece["norms"] == pytest.approx(whole["norms"], abs=1e-6)
    together = [row for position in range(2) for piece in pieces for row in piece["seen"][position : position + 1]]
    seen = torch.tensor(together), torch.tensor(whole["seen"])
    torch.testing.assert_close(*seen, rtol=0, atol=1e-6)  # scores are rounded to 32 bits
    expected, found = (load_file(folder / name / "model.safetensors") for folder in (tmp_path, two_processes))
    assert expected.keys() == found.keys()
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, rtol=0, atol=1e-5, msg=key)
    model_class = TRRGForContrastivePretraining if name == "stage 1" else TRRGForConditionalGeneration
    assert json.loads((two_processes / name / "config.json").read_text())["architectures"] == [model_class.__name__]
    model_class.from_pretrained(two_processes / name)
