"""Assemble the complete Hub folder of a checkpoint, prove that it loads where this project is not installed, push it.

    .venv/bin/python hub_cards/publish.py hub_cards/trrg-small --out demo/published
    .venv/bin/python hub_cards/publish.py hub_cards/trrg-small --repo org/name --push    # after hf auth login
    .venv/bin/python hub_cards/publish.py runs/trrg-small-stage2/model --out demo/mine    # what training wrote
    .venv/bin/python hub_cards/publish.py CHECKPOINT --out demo/published --space demo/space    # its Space too

A checkpoint without a card (README.md) gets card_template.md, to be filled in before it is uploaded.
The proof runs in clean processes (clean_process.py): from the folder, from an emulated Hub cache, and from what
`save_pretrained` wrote there. All three must compute the same numbers. Without --push nothing is uploaded and no
network is used. A push (push.py) that was broken off is simply repeated; what arrived is loaded from there again, at
the commit that the card pins. Tried against a server that plays the Hub, never against the real one.
"""

import argparse
import json
import os
import re
import shutil
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import ModelCard, SpaceCard, get_token
from huggingface_hub.utils import validate_repo_id
from PIL import Image
from tqdm import tqdm
from yaml import YAMLError

from hub_cards.clean_run import emulate_hub_cache, run_clean_process
from hub_cards.push import SUMS, push, push_space, write_code_section
from hub_cards.space_examples import write_examples
from processing_trrg.fingerprint_trrg import check_local_code
from training.data.card import PHANTOMS
from training.phantoms.generate import generate_phantom

REPOSITORY = Path(__file__).resolve().parent.parent
CARD_TEMPLATE = REPOSITORY / "hub_cards" / "card_template.md"
SOURCE_PACKAGES = ("configuration_trrg", "modeling_trrg", "processing_trrg")
UNFILLED = re.compile(r"^(?:license_name:|-) fill-in$|^Fill in", re.MULTILINE)
"""What the template has and a card has not."""
SPACE_CODE = (  # what its app.py imports
    "configuration_trrg/*.py", "processing_trrg/*.py", "evaluation/__init__.py", "evaluation/reading/*.py",
    "hub_cards/__init__.py", "hub_cards/hospital/*.py", "hub_cards/space/[!a]*.py",
)  # fmt: skip
AUTO_CLASSES = ("AutoConfig", "AutoProcessor", "AutoModel", "AutoModelForImageTextToText")
CHECKPOINT_SUFFIXES = (".json", ".jinja", ".md", ".png", ".safetensors", ".txt")
WRITTEN = ("handler.py", "notebook.ipynb", "phantom.png", "LICENSE-CODE", SUMS)  # by `assemble`, of every checkpoint
REQUIRED_FILES = ("config.json", "generation_config.json", "processor_config.json", "tokenizer.json")
TOLERANCE = 1e-5  # largest difference allowed between two processes, on logits of order 10 in float32


@dataclass(frozen=True)
class Proof:
    """What the clean processes showed.

    Attributes:
        outputs: the tensors of the folder.
        classes: module and class of config, processor, base model and generating model, as loaded.
        logits_shape: `[B, T, vocabulary]` of the synthetic study.
        largest_difference: between the three ways, over logits, hidden states, clue scores and generated ids.
        report: text generated for a synthetic phantom.
        answer: to a question about it.
    """

    outputs: dict[str, torch.Tensor]
    classes: list[str]
    logits_shape: list[int]
    largest_difference: float
    report: str
    answer: str


def source_files() -> list[Path]:
    """The `*_trrg.py` files that travel, without the alias modeling_trrg/configuration_trrg.py."""
    files: dict[str, Path] = {}
    for package in SOURCE_PACKAGES:
        for path in sorted((REPOSITORY / package).glob("*_trrg.py")):
            files.setdefault(path.name, path)
    return list(files.values())


def checkpoint_files(checkpoint: Path) -> list[Path]:
    """Files of a checkpoint folder, relative to it, without our source, which `save_pretrained` writes beside them.

    Raises:
        ValueError: a needed file is missing, or a file has no place in a checkpoint (a pickle, say).
    """
    ours = {path.name for path in source_files()} | {*WRITTEN, ".gitattributes"}
    files = sorted(path.relative_to(checkpoint) for path in checkpoint.rglob("*") if path.is_file())
    files = [path for path in files if path.name not in ours and "__pycache__" not in path.parts]
    for path in files:
        if path.suffix not in CHECKPOINT_SUFFIXES:
            raise ValueError(f"{checkpoint / path}: a checkpoint holds only {', '.join(CHECKPOINT_SUFFIXES)} files")
    missing = [name for name in REQUIRED_FILES if Path(name) not in files]
    if not any(path.suffix == ".safetensors" for path in files):
        missing.append("*.safetensors")
    if missing:
        raise ValueError(f"{checkpoint} is no complete checkpoint: missing {', '.join(missing)}")
    return files


def write_requirements(folder: Path, *extras: str) -> None:
    """What the package and its `extras` need, with the ranges of pyproject.toml, as requirements.txt in `folder`."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    (folder / "requirements.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_card(folder: Path) -> None:
    """README.md of a checkpoint that has none, from the template and the facts of its config."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    facts = {
        "name": folder.name,
        "vision_tower": f"{config['vision_config']['model_type']}, {config['image_size']} px",
        "clues": config["clue_source"],
        "connector": config["connector"],
        "language_model": config["text_config"]["model_type"],
    }
    card = CARD_TEMPLATE.read_text(encoding="utf-8")
    for fact, value in facts.items():
        card = card.replace(f"{{{fact}}}", str(value))
    (folder / "README.md").write_text(card, encoding="utf-8")


def assemble_space(out: Path, repository: str | None = None) -> None:
    """Write the Space's folder: its page with the code that it imports, its README, which names model and data, and its
    requirements.

    Raises:
        ValueError: `out` holds other things.
    """
    if out.exists() and any(out.iterdir()) and not (out / "app.py").is_file():
        raise ValueError(f"{out} is not empty and is no Space: not replaced")
    out.mkdir(parents=True, exist_ok=True)
    files = {out / name: REPOSITORY / "hub_cards" / "space" / name for name in ("app.py", "README.md")}
    files |= {out / path.relative_to(REPOSITORY): path for pattern in SPACE_CODE for path in REPOSITORY.glob(pattern)}
    for copy, source in files.items():
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
    card = SpaceCard.load(out / "README.md")
    card.data.datasets = [PHANTOMS]  # its examples
    if repository is not None:
        card.data.models = [repository]
    card.save(out / "README.md")
    write_requirements(out, "space")


def check_auto_map(folder: Path) -> None:
    """`save_pretrained` writes the maps by which `Auto*` classes find our code; config and processor need their own.

    Raises:
        ValueError: one of them is not whole, or a file names the code of others.
    """
    check_local_code(folder)
    for name, wanted in (("config.json", AUTO_CLASSES), ("processor_config.json", ("AutoProcessor",))):
        auto_map = json.loads((folder / name).read_text(encoding="utf-8")).get("auto_map", {})
        missing = [auto_class for auto_class in wanted if auto_class not in auto_map]
        if missing:
            raise ValueError(f"{folder / name}: auto_map lacks {', '.join(missing)}; save it with save_pretrained")


def check_report_length(folder: Path) -> None:
    """Every door writes as long as generation_config.json says; without it Transformers would stop after 20 tokens.

    Raises:
        ValueError: it does not say.
    """
    if json.loads((folder / "generation_config.json").read_text(encoding="utf-8")).get("max_new_tokens") is None:
        raise ValueError(f"{folder / 'generation_config.json'} lacks max_new_tokens, the longest report in tokens")


def check_card(folder: Path) -> None:
    """
    Raises:
        ValueError: the metadata of the card, where there is one, are none that the Hub's client can read.
    """
    if (card := folder / "README.md").is_file():
        try:
            ModelCard.load(card)
        except (ValueError, YAMLError) as error:
            raise ValueError(f"{card}: {error}") from error


def copies(checkpoint: Path, out: Path) -> dict[Path, Path]:
    """What a Hub folder copies: each file of it, and the one that it is a copy of.

    Raises:
        ValueError: see `checkpoint_files`.
    """
    ours = [*source_files(), *(REPOSITORY / "hub_cards" / name for name in ("handler.py", "notebook.ipynb"))]
    files = {out / path: checkpoint / path for path in checkpoint_files(checkpoint)}
    return files | {out / source.name: source for source in ours} | {out / "LICENSE-CODE": REPOSITORY / "LICENSE"}


def is_current(checkpoint: Path, out: Path) -> bool:
    """Whether `out` is what `assemble` wrote of this very checkpoint and this very source: sizes and times of all files
    that it copied, and nothing beside them but what it makes. The card, to which it adds, may be an older one."""
    files = copies(checkpoint, out)
    files.pop(out / "README.md", None)
    made = {out / name for name in ("phantom.png", "requirements.txt", "README.md", SUMS)} - files.keys()
    found = {path for path in out.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    if found != files.keys() | made:
        return False
    pairs = ((copy.stat(), source.stat()) for copy, source in files.items())
    return all(copy.st_size == own.st_size and copy.st_mtime_ns == own.st_mtime_ns for copy, own in pairs)


def assemble(checkpoint: Path, out: Path, repository: str | None = None) -> list[Path]:
    """Write the Hub folder of `checkpoint` to `out` and return its files.

    An earlier Hub folder at `out` is replaced. The card's snippets load `repository`, by default the folder's name.

    Raises:
        ValueError: the checkpoint is not complete (`checkpoint_files`, `check_auto_map`, `check_report_length`), the
            metadata of its card are wrong (`check_card`), or `out` is no folder of its own: it lies in the checkpoint,
            around it, or holds other things.
    """
    files = copies(checkpoint, out)
    check_auto_map(checkpoint)
    check_report_length(checkpoint)
    check_card(checkpoint)
    if out.resolve().is_relative_to(checkpoint.resolve()) or checkpoint.resolve().is_relative_to(out.resolve()):
        raise ValueError(f"{out} and the checkpoint {checkpoint} lie in each other; publish to a folder of its own")
    if out.exists() and any(out.iterdir()):
        if not (out / "config.json").is_file() or not (out / "modeling_trrg.py").is_file():
            raise ValueError(f"{out} is not empty and is no published checkpoint: not replaced")
        shutil.rmtree(out)
    for copy, source in files.items():
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
        os.utime(copy, ns=(source.stat().st_atime_ns, source.stat().st_mtime_ns))  # by which `is_current` knows it
    Image.fromarray(generate_phantom(seed=0, index=0, size=512).image).save(out / "phantom.png")
    write_requirements(out)
    if not (out / "README.md").is_file():
        write_card(out)
    write_code_section(out, repository or out.name)
    return sorted(path for path in out.rglob("*") if path.is_file())


def prove(folder: Path, max_new_tokens: int = 128) -> Proof:
    """Load `folder` as strangers do, three ways, and compare.

    Returns:
        What was shown.

    Raises:
        RuntimeError: a way failed to load, or gave other numbers than the folder.
    """
    folder = folder.resolve()  # the clean processes run elsewhere
    with tempfile.TemporaryDirectory() as scratch_name:
        scratch = Path(scratch_name)
        home = scratch / "home"
        repository = emulate_hub_cache(folder, home)
        saved_again = scratch / "saved_again"
        ways = {
            "folder": (str(folder), ("--save-again", str(saved_again))),
            "Hub cache": (repository, ()),
            "saved again": (str(saved_again), ()),
        }
        outputs: dict[str, dict[str, torch.Tensor]] = {}
        for way, (source, extra) in tqdm(ways.items(), desc="clean processes"):
            results = scratch / "results" / way
            outputs[way] = run_clean_process(source, home, results, *asked(folder, max_new_tokens), *extra)
        proof = json.loads((scratch / "results" / "folder" / "report.json").read_text(encoding="utf-8"))

    first = outputs["folder"]
    largest = max(largest_difference(way, tensors, first) for way, tensors in outputs.items())
    return Proof(first, proof["classes"], list(first["logits"].shape), largest, proof["text"], proof["answer"])


def prove_pushed(proof: Proof, folder: Path, repository: str, commit: str, max_new_tokens: int = 128) -> float:
    """Load what arrived on the Hub, at a commit, and return its largest difference from what `folder` showed.

    Raises:
        RuntimeError: as `prove`.
    """
    with tempfile.TemporaryDirectory() as home:
        arguments = (*asked(folder.resolve(), max_new_tokens), "--revision", commit)
        tensors = run_clean_process(repository, Path(home), Path(home) / "results", *arguments, online=True)
    return largest_difference("the Hub", tensors, proof.outputs)


def asked(folder: Path, max_new_tokens: int) -> tuple[str, ...]:
    """The study that the clean processes report on."""
    study = ("--image", str(folder / "phantom.png"), "--indication", "Shortness of breath.")
    return (*study, "--max-new-tokens", str(max_new_tokens))


def largest_difference(way: str, tensors: dict[str, torch.Tensor], first: dict[str, torch.Tensor]) -> float:
    """Between the tensors of a way and those of the folder.

    Raises:
        RuntimeError: it is larger than TOLERANCE, or their shapes differ.
    """
    largest = 0.0
    for name, expected in first.items():
        if tensors[name].shape != expected.shape:
            raise RuntimeError(f"{way}: {name} is {list(tensors[name].shape)}, from the folder {list(expected.shape)}")
        difference = (tensors[name] - expected).abs().max().item()
        if not difference <= TOLERANCE:
            raise RuntimeError(f"{way}: {name} differs from the folder's by {difference}, more than {TOLERANCE}")
        largest = max(largest, difference)
    return largest


def main(arguments: list[str] | None = None) -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="folder with weights, config, tokenizers and card")
    parser.add_argument("--out", type=Path, help="Hub folder to write (default: build/ and the name of --repo)")
    parser.add_argument("--repo", metavar="ORG/NAME", help="the model's name on the Hub, for the snippets of its card")
    parser.add_argument(
        "--push", action="store_true", help="upload it to --repo, and --space to the Space of that name"
    )
    parser.add_argument(
        "--space", type=Path, help="folder for the Space, whose variable TRRG_CHECKPOINT names the model"
    )
    args = parser.parse_args(arguments)
    if not args.checkpoint.is_dir():
        raise SystemExit(f"{args.checkpoint} does not exist or is no folder")
    if args.repo is None and (args.push or args.out is None):
        parser.error("--push needs --repo, and without --repo it needs --out")
    args.out = args.out or Path("build") / args.repo

    try:
        if args.repo is not None:
            validate_repo_id(args.repo)
        files = assemble(args.checkpoint, args.out, args.repo)
        if args.space is not None:
            assemble_space(args.space, args.repo)
    except ValueError as error:
        raise SystemExit(f"Not published: {error}") from error
    if UNFILLED.search((args.out / "README.md").read_text(encoding="utf-8")):
        if args.push:
            raise SystemExit(f"Not pushed: {args.out}/README.md is the template; put the card into {args.checkpoint}")
        print(
            f"{args.out}/README.md is the template. Fill it in, as {args.checkpoint}/README.md, before you upload it."
        )
    if args.push and get_token() is None:
        raise SystemExit("Not pushed: there is no token of the Hub; `hf auth login` asks for one")
    size = sum(path.stat().st_size for path in files) / 1e6
    print(f"Assembled {args.out}: {len(files)} files, {size:.1f} MB")
    for path in files:
        print(f"  {path.stat().st_size / 1e6:8.3f} MB  {path.relative_to(args.out)}")

    if args.space is not None:
        write_examples(args.space, args.out)
    proof = prove(args.out)
    print(f"Proved in clean processes, which cannot import {', '.join(SOURCE_PACKAGES)}, offline:")
    for auto_class, found in zip(AUTO_CLASSES, proof.classes, strict=True):
        print(f"  {auto_class} -> {found}")
    print("  from the folder, from an emulated Hub cache, and from what save_pretrained wrote again:")
    print(
        f"  logits {proof.logits_shape}, hidden states, clue scores and tokens differ by {proof.largest_difference:g}"
    )
    print(f"  report on a SYNTHETIC phantom: {proof.report}")
    print(f"  asked whether there is a pleural effusion: {proof.answer}")
    if args.push:
        commit = push(args.out, args.repo)
        difference = prove_pushed(proof, args.out, args.repo, commit)
        print(f"Pushed to {args.repo}. Loaded from there at {commit}, it differs by {difference:g}.")
        if args.space is not None:
            push_space(args.space, args.repo, args.repo)
            print(f"Pushed its Space {args.repo}")
    print("Research only, never for clinical use.")


if __name__ == "__main__":
    main()
