"""Published vision encoders -> folders for `model.vision_model`: every weight in its place or refused by name, the same
features and the same grey values as in the package that published them. The weights are random."""

import json
import math
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel

from configuration_trrg.presets_trrg import PRESETS
from processing_trrg import TRRGImageProcessor
from tests.helpers.training_helpers import TINY_OVERRIDES, run_script, stage_1
from training import build_encoder
from training.config.run_config import ModelSection
from training.phantoms.generate import generate_phantom
from training.run.initial_model import build_config, build_processor, shape_of_tower


def build(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["build_encoder", *map(str, arguments)])
    build_encoder.run_command(build_encoder.main)


@pytest.fixture
def refused(monkeypatch, tmp_path):
    """The one line that the command ends with; it has written nothing."""

    def run(*arguments: object) -> str:
        with pytest.raises(SystemExit) as ended:
            build(monkeypatch, *arguments, "--out", tmp_path / "refused")
        assert "\n" not in str(ended.value.code) and not (tmp_path / "refused").exists()
        return str(ended.value.code)

    return run


def settled(module: torch.nn.Module) -> torch.nn.Module:
    """As after training: no statistic of a batch norm is the one it starts with."""
    torch.manual_seed(0)
    for name, buffer in module.named_buffers():
        if buffer.is_floating_point():
            torch.nn.init.uniform_(buffer, 0.5, 1.5) if name.endswith("var") else torch.nn.init.normal_(buffer, std=0.1)
    return module.eval()


def tower(folder: Path) -> torch.nn.Module:
    return AutoModel.from_pretrained(folder).eval()


def same(left: torch.Tensor, right: torch.Tensor) -> bool:
    return torch.allclose(left, right, atol=1e-4 * float(right.abs().max()))


def densenet_names() -> list[str]:
    """Of torchxrayvision's DenseNet, as its models.py builds them."""
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = ["features.conv0.weight", *(f"features.norm0.{end}" for end in norm)]
    for block, layers in enumerate((6, 12, 24, 16), 1):
        for layer in range(1, layers + 1):
            for half in (1, 2):
                place = f"features.denseblock{block}.denselayer{layer}"
                names += [*(f"{place}.norm{half}.{end}" for end in norm), f"{place}.conv{half}.weight"]
        if block < 4:
            place = f"features.transition{block}"
            names += [*(f"{place}.norm.{end}" for end in norm), f"{place}.conv.weight"]
    return [*names, *(f"features.norm5.{end}" for end in norm), "classifier.weight", "classifier.bias"]


@pytest.mark.parametrize("kind", ["densenet121", pytest.param("resnet50", marks=pytest.mark.slow)])
def test_torchxrayvision(kind, monkeypatch, tmp_path, capsys):
    """One channel from -1024 to 1024 there, three here: the same features."""
    if kind == "densenet121":
        twin = settled(timm.create_model("densenet121", in_chans=1, num_classes=18))
        state = twin.state_dict()
        assert list(state) == densenet_names()
    else:  # torchvision's ResNet with another first convolution, inside of a module `model`
        twin = settled(timm.create_model("resnet50", in_chans=1, num_classes=18))
        state = {f"model.{name}": value for name, value in twin.state_dict().items()}
    torch.save({**state, "op_threshs": torch.rand(18)}, tmp_path / "xrv.pt")
    out = tmp_path / "tower"
    build(monkeypatch, "--kind", f"torchxrayvision-{kind}", tmp_path / "xrv.pt", "--out", out)
    assert "left out: op_threshs (1 weights)" in capsys.readouterr().out
    grey = torch.rand(1, 1, 32, 32) * 2048 - 1024
    with torch.no_grad():
        theirs, ours = twin.forward_features(grey), tower(out)(grey.expand(-1, 3, -1, -1)).last_hidden_state
    assert same(ours, theirs)


def test_biovil_t(monkeypatch, tmp_path, capsys):
    """The ResNet of hi-ml's ImageModel is torchvision's; its projector and its transformer are left out."""
    twin = settled(torchvision.models.resnet50())
    state = {f"encoder.encoder.{name}": value for name, value in twin.state_dict().items()}
    more = ["projector.model.0.weight", "projector.model.1.running_mean", "projector.model.3.bias"]
    more += ["encoder.backbone_to_vit.weight", "encoder.missing_previous_emb", "encoder.vit_pooler.type_embed"]
    more += ["encoder.vit_pooler.blocks.2.attn.proj_q.weight", "encoder.vit_pooler.norm_post.bias"]
    torch.save(state | {name: torch.rand(2) for name in more}, tmp_path / "image_model.pt")
    build(monkeypatch, "--kind", "biovil-t", tmp_path, "--out", tmp_path / "tower")
    printed = capsys.readouterr().out
    assert "left out: encoder.vit_pooler (3 weights)" in printed and "left out: projector (3 weights)" in printed
    pixels = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        theirs = torch.nn.Sequential(*list(twin.children())[:-2])(pixels)
        assert same(tower(tmp_path / "tower")(pixels).last_hidden_state, theirs)


def rad_dino_weights(width: int = 768, grid: int = 37) -> dict[str, torch.Tensor]:
    """RAD-DINO's names as Transformers 4 wrote them, with random values."""
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.cls_token": (1, 1, width), "embeddings.mask_token": (1, width),
        "embeddings.position_embeddings": (1, grid * grid + 1, width), "layernorm.weight": (width,),
        "embeddings.patch_embeddings.projection.weight": (width, 3, 14, 14), "layernorm.bias": (width,),
        "embeddings.patch_embeddings.projection.bias": (width,),
    }  # fmt: skip
    linear = {"attention.attention.query": 1, "attention.attention.key": 1, "attention.attention.value": 1}
    linear |= {"attention.output.dense": 1, "mlp.fc1": 4}
    for place in (f"encoder.layer.{layer}" for layer in range(12)):
        for name, times in linear.items():
            shapes |= {f"{place}.{name}.weight": (times * width, width), f"{place}.{name}.bias": (times * width,)}
        shapes |= {f"{place}.mlp.fc2.weight": (width, 4 * width), f"{place}.mlp.fc2.bias": (width,)}
        for half in (1, 2):
            ends = (f"norm{half}.weight", f"norm{half}.bias", f"layer_scale{half}.lambda1")
            shapes |= {f"{place}.{end}": (width,) for end in ends}
    return {name: torch.randn(shape, dtype=torch.bfloat16) / 10 for name, shape in shapes.items()}


def test_rad_dino(monkeypatch, refused, tmp_path, capsys):
    state = rad_dino_weights()
    save_file(state, tmp_path / "model.safetensors")
    build(monkeypatch, "--kind", "rad-dino", tmp_path, "--out", tmp_path / "tower")
    printed = capsys.readouterr().out
    assert "left out: embeddings.mask_token (1 weights)" in printed
    assert "518 px, 37 x 37 patches of width 768 after 1 prefix tokens" in printed
    written = load_file(tmp_path / "tower" / "model.safetensors")
    del state["embeddings.mask_token"]
    assert sum(value.numel() for value in written.values()) == sum(value.numel() for value in state.values())
    model = tower(tmp_path / "tower")
    assert model.dtype == torch.float32
    attention = model.encoder.layer[3].attention
    query = attention.q_proj if hasattr(attention, "q_proj") else attention.attention.query  # from Transformers 5.2x on
    assert torch.equal(query.weight, state["encoder.layer.3.attention.attention.query.weight"].float())
    assert torch.equal(model.layernorm.bias, state["layernorm.bias"].float())

    state["embeddings.position_embeddings"] = torch.zeros(1, 16 * 16 + 1, 768)
    save_file(state, tmp_path / "model.safetensors")
    line = refused("--kind", "rad-dino", tmp_path)
    assert (
        "wrong shape: embeddings.position_embeddings [1, 257, 768] for [1, 1370, 768]" in line and str(tmp_path) in line
    )


def test_weights_in_the_order_of_the_tower(monkeypatch, refused, tmp_path):
    twin = settled(timm.create_model("tf_efficientnet_lite0"))
    named = twin.state_dict().items()
    state = {
        name.replace("classifier", "_fc") if "classifier" in name else f"_{at}.{name}": v
        for at, (name, v) in enumerate(named)
    }
    torch.save(state, tmp_path / "lite0.pth")
    command = ("--kind", "efficientnet-lite0", tmp_path / "lite0.pth")
    build(monkeypatch, *command, "--out", tmp_path / "tower", "--output-stride", 16)
    pixels = torch.rand(1, 3, 64, 64)
    model = tower(tmp_path / "tower")
    assert model(pixels).last_hidden_state.shape == (1, 1280, 4, 4)
    torch.save(dict(list(state.items())[1:]), tmp_path / "lite0.pth")
    assert "do not come in the order" in refused(*command)


def test_the_table_says_what_the_networks_are():
    row = build_encoder.ENCODERS["biovil"]  # the others are built above
    shape = shape_of_tower(AutoConfig.for_model(**row.config), row.image_size)
    assert (shape["patch_grid"], shape["num_prefix_tokens"]) == (row.grid, row.prefix)


@pytest.mark.parametrize("kind", ["rad-dino", "torchxrayvision-densenet121"])
def test_a_network_of_one_stride_is_not_given_another(kind, refused, tmp_path):
    save_file({"a": torch.rand(1)}, tmp_path / "w.safetensors")
    line = refused("--kind", kind, tmp_path, "--output-stride", 8)
    assert "no other one than its own" in line or "do not fit densenet121" in line


# --- a timm checkpoint, small ---


@pytest.fixture(scope="module")
def small():
    return settled(timm.create_model("test_efficientnet", num_classes=5))


def timm_folder(folder: Path, model: torch.nn.Module, **changed: torch.Tensor | None) -> Path:
    """As timm publishes it: names of its own, a head, config.json with means and deviations."""
    folder.mkdir()
    state = {**model.state_dict(), **{name.replace("__", "."): value for name, value in changed.items()}}
    for name in [name for name, value in state.items() if value is None]:
        del state[name]
    save_file(state, folder / "model.safetensors")
    cfg = {"input_size": [3, 64, 64], "mean": [0.3] * 3, "std": [0.2] * 3, "classifier": "classifier"}
    config = {"architecture": "test_efficientnet", "num_classes": 5, "pretrained_cfg": cfg}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def test_a_run_takes_weights_and_grey_values_of_a_built_tower(small, data, monkeypatch, tmp_path):
    build(monkeypatch, "--kind", "timm", timm_folder(tmp_path / "timm", small), "--out", tmp_path / "tower")
    config = stage_1(data, tmp_path / "run")
    names = {"clue_config", "text_config", "projection_dim", "num_query_tokens", "num_interaction_heads"}
    config["model"]["overrides"] = {name: value for name, value in TINY_OVERRIDES.items() if name in names}
    config["model"]["vision_model"] = str(tmp_path / "tower")
    config["schedule"] = {"steps": 1}
    config["trained"] = ["clue_encoder", "image_projection", "clue_projection", "logit_scale"]
    assert run_script("pretrain.py", config) == 0
    see = TRRGImageProcessor.from_pretrained(tmp_path / "run" / "model")
    assert (see.size, see.grey_range, see.image_mean, see.image_std) == (64, "percentiles", [0.3] * 3, [0.2] * 3)
    trained = load_file(tmp_path / "run" / "model" / "model.safetensors")
    for name, value in load_file(tmp_path / "tower" / "model.safetensors").items():
        assert torch.equal(trained[f"model.vision_tower.{name}"], value), name

    # the tower of a checkpoint can be changed too, and its grey values with it
    file = tmp_path / "tower" / "preprocessor_config.json"
    file.write_text(file.read_text(encoding="utf-8").replace("0.3", "0.4"), encoding="utf-8")
    section = ModelSection(checkpoint=str(tmp_path / "run" / "model"), vision_model=str(tmp_path / "tower"))
    assert build_processor(section, build_config(section)).image_processor.image_mean == [0.4] * 3

    # a folder that lacks a weight is refused; it would be random
    weights = load_file(tmp_path / "tower" / "model.safetensors")
    del weights["timm_model.conv_stem.weight"]
    save_file(weights, tmp_path / "tower" / "model.safetensors", {"format": "pt"})
    config["run"]["output_dir"] = str(tmp_path / "third")
    with pytest.raises(SystemExit, match=r"lacks 1 weights of the tower: timm_model\.conv_stem\.weight"):
        run_script("pretrain.py", config)


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"conv_stem__weight": None}, "missing: timm_model.conv_stem.weight"),
        ({"pacs__weight": torch.rand(3)}, "unexpected: timm_model.pacs.weight"),
        ({"conv_stem__weight": torch.rand(5, 3, 3, 3)}, "wrong shape: timm_model.conv_stem.weight [5, 3, 3, 3] for"),
        ({"conv_stem__weight": torch.full((24, 3, 3, 3), math.nan)}, "conv_stem.weight holds NaN"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(changed, words, small, refused, tmp_path):
    assert words in refused("--kind", "timm", timm_folder(tmp_path / "timm", small, **changed))


def test_an_unknown_name_of_another_package_is_refused(refused, tmp_path):
    torch.save({"encoder.encoder.conv1.weight": torch.rand(1), "teacher.x": torch.rand(1)}, tmp_path / "image.pt")
    assert "unknown weights: teacher.x" in refused("--kind", "biovil-t", tmp_path / "image.pt")


class Runs:
    """What a pickle may do when it is read."""

    def __reduce__(self):
        return os.mkdir, ("was-run",)


def test_a_pickle_is_never_run(refused, tmp_path, monkeypatch):
    """torchxrayvision publishes its DenseNets as pickled modules."""
    monkeypatch.chdir(tmp_path)
    command = ("--kind", "torchxrayvision-densenet121", "xrv.pt")
    torch.save(torch.nn.Linear(2, 2), "xrv.pt")
    line = refused(*command)
    assert "makes a torch.nn.modules.linear.Linear" in line and "DenseNet(weights=" in line
    Path("xrv.pt").write_bytes(pickle.dumps(Runs(), 2))
    assert "mkdir" in refused(*command)
    assert not Path("was-run").exists()


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"PK\x03\x04 cut short"])
@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_files_without_weights(content, name, refused, tmp_path):
    (tmp_path / name).write_bytes(content)
    line = refused("--kind", "biovil-t", tmp_path)
    assert str(tmp_path / name) in line and "damaged" in line


def test_sources_that_are_not_there(refused, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "not on the Hub; expected the file" in refused("--kind", "torchxrayvision-densenet121", "no/such")
    assert "no such file or folder" in refused("--kind", "rad-dino", "/no/such/folder")
    assert "cannot be loaded" in refused("--kind", "rad-dino", "nobody/rad-dino")
    assert "found []" in refused("--kind", "biovil", tmp_path)
    save_file({"a": torch.rand(1)}, tmp_path / "w.safetensors")
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    assert "config.json cannot be loaded" in refused("--kind", "timm", tmp_path / "w.safetensors")
    (tmp_path / "config.json").unlink()
    assert "--architecture is None" in refused("--kind", "timm", tmp_path / "w.safetensors")
    assert "'resnet5000'" in refused("--kind", "timm", tmp_path / "w.safetensors", "--architecture", "resnet5000")
    torch.save([torch.rand(1)], tmp_path / "list.pt")
    assert "found list" in refused("--kind", "biovil", tmp_path / "list.pt")


# --- grey values ---


def as_published(kind: str, eight_bits: np.ndarray) -> np.ndarray:
    """The pixels that the package's own preprocessing makes of an 8-bit picture of the encoder's size, `[H, W]`."""
    if kind.startswith("torchxrayvision"):
        return (2 * (eight_bits.astype(np.float32) / 255) - 1) * 1024  # its `normalize(img, 255)`
    unit = eight_bits.astype(np.float32) / 255
    return {"rad-dino": (unit - 0.5307) / 0.2583, "efficientnet-lite0": (unit - 0.5) / 0.5}.get(kind, unit)


@pytest.mark.parametrize("kind", [kind for kind in build_encoder.ENCODERS if kind != "timm"])
@pytest.mark.parametrize("real", [False, True], ids=["phantom", "radiograph"])
def test_pixels_are_those_of_the_package(kind, real, request):
    """Of a picture that uses all 256 levels; beyond that, ours are stretched first (`grey_trrg.py`)."""
    row = build_encoder.ENCODERS[kind]
    if real:
        file = sorted((request.getfixturevalue("data_dir") / "nih" / "images").glob("*"))[0]
        picture = Image.open(file).convert("L")
    else:
        picture = Image.fromarray(generate_phantom(3, 0, 256).image)
    grey = np.asarray(picture.resize((row.image_size, row.image_size), Image.Resampling.BICUBIC)).astype(np.float32)
    grey = np.round((grey - grey.min()) / np.ptp(grey) * 255).astype(np.uint8)
    processor = TRRGImageProcessor(row.image_size, "min_max", row.mean, row.std)
    ours = processor.preprocess(grey)["pixel_values"][0].numpy()
    theirs = as_published(kind, grey)
    for channel in ours:
        np.testing.assert_allclose(channel, theirs, atol=1e-5 * np.ptp(theirs))


def test_timm_gives_its_own_means(small, monkeypatch, tmp_path):
    """Without a config.json, timm's own list has them."""
    torch.save(small.state_dict(), tmp_path / "w.pth")
    command = ("--kind", "timm", tmp_path / "w.pth", "--architecture", "test_efficientnet", "--out", tmp_path / "tower")
    build(monkeypatch, *command)
    listed = timm.get_pretrained_cfg("test_efficientnet")
    see = TRRGImageProcessor.from_pretrained(tmp_path / "tower")
    assert (see.image_mean, see.image_std) == (list(listed.mean), list(listed.std))


@pytest.mark.parametrize("preset", PRESETS)
def test_every_system_takes_a_tower_without_a_class_token(preset, small, monkeypatch, tmp_path):
    build(monkeypatch, "--kind", "timm", timm_folder(tmp_path / "timm", small), "--out", tmp_path / "tower")
    config = build_config(ModelSection(preset=preset, vision_model=str(tmp_path / "tower")))
    assert (config.image_size, config.patch_grid, config.num_prefix_tokens, config.vision_hidden_size) == (
        64,
        2,
        0,
        256,
    )
