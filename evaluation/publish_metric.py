"""Assemble the metric's Space: one flat folder that `evaluate.load` can read, from the files of this package.

    python evaluation/publish_metric.py --out build
    cd build && python -c 'import evaluate; print(evaluate.load("trrg/radiology-ce").description)'

The loader of `evaluate` copies the script and its *direct* relative imports, one level deep and nothing else. So every
module that is reached is put beside the script, `from evaluation.room.x import` becomes `from .x import`, and the
script names each module itself. So no two of these modules may have the same base name.
"""

import argparse
import ast
import re
import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path

ROOM = Path(__file__).resolve().parent
SPACE = ROOM / "radiology-ce"
NAME = "trrg/radiology-ce"
GUARDED = re.compile(r"^try:\n((?:    .*\n)+)except ImportError.*\n(?:    .*\n)+\n", re.MULTILINE)
OWN_IMPORT = re.compile(r"^from evaluation\.(?:\w+\.)*(\w+) import", re.MULTILINE)


def own_imports(source: str) -> set[str]:
    """Modules of this package that a source imports, wherever the import stands: `reading.labeler`."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "evaluation":
            found.add(node.module.removeprefix("evaluation."))
    return found


def reached_modules(script: str) -> list[str]:
    """All modules of this package that a script needs, direct or not, sorted."""
    reached: set[str] = set()
    waiting = own_imports(script)
    while waiting:
        module = waiting.pop()
        reached.add(module)
        waiting |= own_imports(source_of(module).read_text(encoding="utf-8")) - reached
    return sorted(reached)


def source_of(module: str) -> Path:
    """The file of `reading.labeler`."""
    return ROOM.joinpath(*module.split(".")).with_suffix(".py")


def base_names(modules: Sequence[str]) -> dict[str, str]:
    """Module -> the name of its file in the flat folder.

    Raises:
        ValueError: two modules have the same base name, so one file would overwrite the other.
    """
    names = {module: module.rpartition(".")[2] for module in modules}
    if doubled := sorted(module for module, name in names.items() if list(names.values()).count(name) > 1):
        raise ValueError(f"{', '.join(doubled)} would be the same file in the flat folder: rename one")
    return names


def assemble(out: Path) -> Path:
    """Write `out/trrg/radiology-ce` and return it.

    Raises:
        ValueError: an import stands inside a function, where the loader would miss it, or two modules that are reached
            have the same base name.
    """
    folder = out / NAME
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(SPACE.iterdir()):
        if file.is_file():
            shutil.copyfile(file, folder / file.name)
    # The script guards its imports, so that a bare copy of it says what is missing; here nothing is.
    script = GUARDED.sub(lambda found: textwrap.dedent(found[1]) + "\n", (SPACE / "radiology-ce.py").read_text("utf-8"))
    names = base_names(reached_modules(script))
    for module, name in names.items():
        (folder / f"{name}.py").write_text(relative(source_of(module).read_text(encoding="utf-8"), name))
    indirect = [name for module, name in names.items() if module not in own_imports(script)]
    named = "".join(f"from .{module} import __name__ as _{module}\n" for module in indirect)
    first = OWN_IMPORT.search(script)
    assert first is not None
    script = script[: first.start()] + named + script[first.start() :]
    (folder / "radiology-ce.py").write_text(relative(script, "radiology-ce"), encoding="utf-8")
    return folder


def relative(source: str, name: str) -> str:
    """The source with one-dot imports."""
    flat = OWN_IMPORT.sub(r"from .\1 import", source)
    if left := own_imports(flat):
        raise ValueError(f"{name}: import of {', '.join(sorted(left))} is not at the start of a line")
    return flat


def main(arguments: Sequence[str] | None = None) -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help=f"folder that will hold {NAME}")
    folder = assemble(parser.parse_args(arguments).out)
    print(f"{folder}: {', '.join(sorted(file.name for file in folder.iterdir()))}")


if __name__ == "__main__":
    main()
