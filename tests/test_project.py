"""The project's own rules: what travels to the Hub, the wheel, the lock, the README, the cards, the pages' warnings."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData
from packaging.requirements import Requirement

import modeling_trrg
import processing_trrg
from configuration_trrg import __version__
from evaluation.metrics.signature import VERSION
from hub_cards import demo
from hub_cards.publish import AUTO_CLASSES, SOURCE_PACKAGES, source_files
from tests.helpers.hub_server import card_faults
from training.data.card import PHANTOMS

ROOT = Path(__file__).resolve().parent.parent
ALIAS = ROOT / "modeling_trrg" / "configuration_trrg.py"
SMALL = ROOT / "hub_cards" / "trrg-small"
SHIPPED = (SMALL, ROOT / "hub_cards" / "radialog-small")
CARDS = sorted(set((ROOT / "hub_cards").glob("*/README.md")) - {ROOT / "hub_cards" / "hospital" / "README.md"})
THIRD_PARTY = {"torch", "transformers", "numpy", "PIL", "huggingface_hub"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TRAVELLING = source_files()


def imports(path: Path) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Each import of a file, and whether it stands in a `try` that expects an ImportError."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guarded: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Try) and any("ImportError" in ast.dump(handler) for handler in node.handlers):
            guarded.update(inner for statement in node.body for inner in ast.walk(statement))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, node in guarded


def siblings(path: Path) -> set[str]:
    """The files that `from .name import x` of a file names."""
    return {f"{node.module}.py" for node, _ in imports(path) if isinstance(node, ast.ImportFrom) and node.level == 1}


def tracked_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def test_base_names_of_travelling_files_are_unique() -> None:
    paths = [
        path for package in SOURCE_PACKAGES for path in (ROOT / package).glob("*.py") if path.name != "__init__.py"
    ]
    names = [path.name for path in paths if path != ALIAS]
    assert len(names) == len(set(names))
    assert all(name.endswith("_trrg.py") for name in names), "a file without _trrg in its name is not published"


def test_the_alias_holds_one_import_and_nothing_else() -> None:
    statements = ast.parse(ALIAS.read_text(encoding="utf-8")).body
    code = [statement for statement in statements if not isinstance(statement, ast.Expr)]
    assert [ast.unparse(statement) for statement in code] == [
        "from configuration_trrg.configuration_trrg import TRRGConfig as TRRGConfig"
    ]


@pytest.mark.parametrize("path", TRAVELLING, ids=lambda path: path.name)
def test_a_travelling_file_imports_what_the_hub_has(path: Path) -> None:
    standard = sys.stdlib_module_names
    for node, guarded in imports(path):
        where = f"{path.name}:{node.lineno}"
        if isinstance(node, ast.ImportFrom):
            assert node.module != "__future__", f"{where}: future annotations break config_class"
            assert node.level <= 1, f"{where}: only one-dot imports work on the Hub"
            assert "TYPE_CHECKING" not in {alias.name for alias in node.names}, where
            if node.level == 1:
                assert node.module and "." not in node.module, f"{where}: write `from .name import x`"
                assert (path.parent / f"{node.module}.py").is_file(), f"{where}: no {node.module}.py beside it"
                continue
            modules = [str(node.module)]
        else:
            modules = [alias.name for alias in node.names]
        for module in modules:
            top = module.split(".")[0]
            assert guarded or top in THIRD_PARTY or top in standard, f"{where}: {module} is not on every machine"


@pytest.mark.parametrize("path", TRAVELLING, ids=lambda path: path.name)
def test_no_text_of_a_travelling_file_looks_like_an_import_of_a_missing_sibling(path: Path) -> None:
    """The Hub's loader finds relative imports by a regular expression, in docstrings and comments too."""
    text = path.read_text(encoding="utf-8")
    found = re.findall(r"^\s*import\s+\.(\S+)\s*$", text, re.MULTILINE)
    found += re.findall(r"^\s*from\s+\.(\S+)\s+import", text, re.MULTILINE)
    assert {f"{name}.py" for name in found} == siblings(path)


@pytest.mark.parametrize("entry", ["modeling_trrg/modeling_trrg.py", "processing_trrg/processing_trrg.py"])
def test_every_helper_is_imported_by_the_entry_file_itself(entry: str) -> None:
    path = ROOT / entry
    direct, todo, reached = siblings(path), [path], set()
    while todo:
        for name in siblings(todo.pop()) - reached:
            reached.add(name)
            todo.append(path.parent / name)
    assert reached <= direct, f"{path.name} must import {sorted(reached - direct)} itself"


def test_the_processor_keeps_no_lambda() -> None:
    for path in TRAVELLING:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Assign) and any(isinstance(target, ast.Attribute) for target in node.targets):
                kept = [inner for inner in ast.walk(node.value) if isinstance(inner, ast.Lambda)]
                assert not kept, f"{path.name}:{node.lineno}: a kept lambda cannot be saved or sent to a worker"


def test_imports_run_one_way() -> None:
    rooms = {
        "configuration_trrg": {"configuration_trrg"},
        "modeling_trrg": {"configuration_trrg", "modeling_trrg"},
        "processing_trrg": {"configuration_trrg", "processing_trrg"},
    }
    ours = {*rooms, "training", "evaluation", "hub_cards", "tests"}
    for room, allowed in rooms.items():
        for path in (ROOT / room).glob("*.py"):
            for node, _ in imports(path):
                names = (
                    [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
                )
                tops = {name.split(".")[0] for name in names} & ours if getattr(node, "level", 0) == 0 else set()
                assert tops <= allowed, f"{path.relative_to(ROOT)}:{node.lineno} imports {sorted(tops - allowed)}"


def without_docstring(path: Path) -> Iterator[str]:
    """Public module-level functions and public methods of public classes that say nothing of themselves."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        inside = node.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_") else []
        for function in [node, *inside]:
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) or function.name.startswith("_"):
                continue
            setter = any(ast.unparse(decorator).endswith(".setter") for decorator in function.decorator_list)
            if not setter and ast.get_docstring(function) is None:
                yield f"{path.relative_to(ROOT)}:{function.lineno} {function.name}"


def test_every_public_function_has_a_docstring() -> None:
    rooms = (*SOURCE_PACKAGES, "training", "evaluation", "hub_cards")
    files = [path for room in rooms for path in sorted((ROOT / room).rglob("*.py")) if not path.is_symlink()]
    silent = [function for path in files for function in without_docstring(path)]
    assert len(files) > 100 and not silent, "\n".join(silent)


def test_the_wheel_holds_three_packages(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == set(SOURCE_PACKAGES)
    assert all(name.endswith(".py") for name in names if ".dist-info" not in name)


def development_requirements() -> Iterator[Requirement]:
    """What the lock is for: the package, the extra "dev" and the extras that it names."""
    extras = PROJECT["optional-dependencies"]
    (own,) = (requirement for requirement in map(Requirement, extras["dev"]) if requirement.name == PROJECT["name"])
    for lines in (PROJECT["dependencies"], extras["dev"], *(extras[name] for name in sorted(own.extras))):
        yield from (requirement for requirement in map(Requirement, lines) if requirement.name != own.name)


def pinned(lock: Path) -> dict[str, str]:
    """Name -> the one version that a lock has of it; without an address."""
    text, pins = lock.read_text(encoding="utf-8"), {}
    for line in text.splitlines():
        requirement = Requirement(line)
        assert requirement.url is None
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", line
        pins[requirement.name.lower().replace("_", "-")] = specifier.version
    assert "/" not in text
    assert "-e " not in text
    return pins


def test_the_locks_pin_every_dependency_above_its_floor_and_name_no_address() -> None:
    pins = pinned(ROOT / "requirements.lock")
    laid_over = pinned(ROOT / "hub_cards" / "space" / "requirements.lock")
    page = map(Requirement, [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["space"]])
    for lock, wanted in ((pins, development_requirements()), (pins | laid_over, page)):
        for requirement in wanted:
            pin = lock[requirement.name.lower().replace("_", "-")]
            assert requirement.specifier.contains(pin), f"{requirement} but the lock has {pin}"
    for card in ("hub_cards/space/README.md", "evaluation/radiology-ce/README.md"):
        assert ModelCard.load(ROOT / card).data.sdk_version == laid_over["gradio"], card


def test_version_and_citation_agree() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__ == VERSION, "signature.py writes it into every score"
    assert modeling_trrg.__version__ == processing_trrg.__version__ == __version__
    assert citation["license"] == PROJECT["license"]
    assert len(citation["preferred-citation"]["authors"]) == 7


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.parent.name)
def test_a_card_is_valid_and_says_what_it_is_not_for(path: Path) -> None:
    card = ModelCard.load(path)
    assert "never for clinical use" in card.text.lower()
    if path.parent.name != "space":
        assert card.data.pipeline_tag == "image-text-to-text"
        assert card.data.library_name == "transformers"
        assert card.data.license and "conversational" in card.data.tags
        again = ModelCardData(**card.data.to_dict())  # the Hub's own reading of `model-index`
        assert again.to_dict() == card.data.to_dict() and not card_faults(str(card))


def test_the_cards_that_carry_weights_say_how_they_are_asked_for_and_cited() -> None:
    for path in (*(folder / "README.md" for folder in SHIPPED), ROOT / "hub_cards" / "card_template.md"):
        card = ModelCard.load(path)
        data = card.data.to_dict()
        assert data["widget"][0]["src"] == "phantom.png" and "never for clinical use" in data["extra_gated_prompt"]
        assert list(data["extra_gated_fields"].values()) == ["checkbox"]
        for words in ("@article{", "Environmental cost", "post_process_report(generated, inputs, study)"):
            assert words in card.text


def test_a_card_names_what_its_weights_come_from() -> None:
    """By what the Hub links: data sets, and the checkpoints that the training configurations start from."""
    for path in (path for path in CARDS if path.parent.name != "space"):
        data = ModelCard.load(path).data
        configs = [
            yaml.safe_load(file.read_text(encoding="utf-8")).get("model", {})
            for file in (ROOT / "training" / "configs").glob(f"{path.parent.name}-*.yaml")
        ]
        parts = {config[key] for config in configs for key in config if key.endswith("_model")}
        names = {part for part in parts if "/" in part and not part.startswith("runs/")}  # of the Hub
        assert set(data.base_model or ()) == names, path
        results = {result.dataset_type for result in data.eval_results or ()}
        assert data.datasets and set(data.datasets) >= results, path
    for path in (SMALL, ROOT / "evaluation" / "radiology-ce"):
        assert PHANTOMS in ModelCard.load(path / "README.md").data.datasets, path


def test_the_small_cards_scores_are_those_of_its_table() -> None:
    card = ModelCard.load(SMALL / "README.md")
    results = card.data.eval_results
    images = [result.dataset_args["images"] for result in results]
    assert images == ["synthetic", *["real"] * 5, "none"]
    for result in results:
        low, high = result.metric_args["interval"]
        assert f"{result.metric_value:.3f} [{low:.3f}, {high:.3f}]" in card.text, result.metric_name
        assert re.search(r"\|n:\d+\|.*\|version:", result.metric_args["signature"]), result.metric_name


def test_the_small_checkpoint_says_how_long_a_report_may_be() -> None:
    assert json.loads((SMALL / "generation_config.json").read_text(encoding="utf-8"))["max_new_tokens"] == 160


@pytest.mark.parametrize("path", ["README.md", "hub_cards/demo.py", "hub_cards/handler.py", "hub_cards/space/app.py"])
def test_every_page_a_user_sees_says_never_for_clinical_use(path: str) -> None:
    assert "never for clinical use" in (ROOT / path).read_text(encoding="utf-8").lower()


def test_the_readmes_tree_names_what_exists() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (tree,) = re.findall(r"```\n(configuration_trrg/.*?)```", readme, re.DOTALL)
    room = ROOT
    for line in tree.splitlines():
        room = room if line.startswith("  ") else ROOT
        for name in re.findall(r"(?:^ *|[ ,])([\w./-]+(?:\.py|/))(?=[ ,])", line.split("   ")[0] + " "):
            base = room if line.startswith("  ") else ROOT
            assert (base / name).exists(), f"the README's tree names {base.name}/{name}"
        if not line.startswith("  "):
            room = ROOT / line.split("/")[0]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *(str(path.relative_to(ROOT)) for path in CARDS)])
def test_what_a_page_links_to_exists(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text(encoding="utf-8")):
        assert "://" in target or ((ROOT / page).parent / target).exists(), f"{page} links to {target}"


def test_the_readmes_python_runs_as_written(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert len(ast.parse(blocks[0]).body) == 6, "an import and five lines"
    demo.main(["--out", str(tmp_path / "demo"), "--max-new-tokens", "8"])
    command = [sys.executable, "-c", "\n".join(blocks)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("small", SHIPPED, ids=lambda path: path.name)
def test_a_small_checkpoint_is_small_and_safe_and_its_source_is_a_link(small: Path) -> None:
    links = {path.name: path.resolve() for path in small.glob("*.py")}
    assert links == {path.name: path for path in TRAVELLING}, "ln -s the new source file into the folder"
    files = [path for path in small.rglob("*") if path.is_file() and path.name not in links]
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".jinja", ".md", ".png", ".txt"}
    assert sum(path.stat().st_size for path in files if path.suffix == ".safetensors") <= 25e6
    config = json.loads((small / "config.json").read_text(encoding="utf-8"))
    assert set(AUTO_CLASSES) <= set(config["auto_map"])


def test_no_file_names_a_machine_path_or_a_registry_host() -> None:
    # Written so that this file does not hold what it looks for.
    words = [
        "/" + "work/",
        "/" + "root/",
        "/" + "home/",
        "python" + "hosted",
        "py" + "pi.org",
        "registry" + ".npm",
        "debian" + ".org",
    ]
    for path in tracked_files():
        if path.suffix not in {".png", ".webp", ".safetensors", ".dcm", ".jpg", ".whl"}:
            text = path.read_text(encoding="utf-8", errors="replace")
            found = [word for word in words if word in text]
            assert not found, f"{path.relative_to(ROOT)} names {found}"


def test_no_large_file_and_no_patient_data_in_the_tree() -> None:
    for path in tracked_files():
        name = path.relative_to(ROOT)
        assert path.stat().st_size <= 25e6, name
        assert path.suffix not in {".dcm", ".jpg", ".jpeg", ".bin", ".pt", ".pth", ".pkl", ".ckpt"}, name


def test_the_rules_of_transformers_are_followed_but_one_and_the_page_says_why() -> None:
    pytest.importorskip("mlinter", reason="needs the dev extra")
    command = [sys.executable, "-m", "mlinter", "--no-progress", "--no-cache", str(SMALL)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ignored = {rule for path in source_files() for rule in re.findall(r"trf-ignore: (\w+)", path.read_text("utf-8"))}
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").replace("\n", " ")
    assert ignored == {"TRF057"} and all(f"trf-ignore: {rule}" in page for rule in ignored)
