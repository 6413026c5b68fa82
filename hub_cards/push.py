"""The way of a published folder to the Hub: the list of the code it runs, one commit, and a card that pins that commit.

What the card says of the code is written by `write_code_section`, also without a push. `push` may be killed at any
time and repeated: what was uploaded is not uploaded again, and nobody ever loads half of a commit.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import EntryNotFoundError

SUMS = "SHA256SUMS"
HEADING = "\n\n## The code that it runs\n"
UNPINNED = "main"
PINNED = re.compile(r'revision = "([0-9a-f]{40})"')
SECTION = """
`trust_remote_code=True` runs the Python files of this repository on your machine. Read them, and name the commit that
you have read, so that nothing newer is run:

```python
from transformers import pipeline

revision = "{revision}"
write = pipeline("radiology-report", model="{repository}", revision=revision, trust_remote_code=True)
```

Every file of a download is looked at by `sha256sum --check SHA256SUMS`, whose own SHA-256 stands here too.{unpinned}

| file | SHA-256 |
|---|---|
{rows}
"""


def sha256(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def files_of(folder: Path) -> list[str]:
    """The files of a folder, relative to it, sorted, without what Python left there when they were run."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in files if "__pycache__" not in path.parts)


def write_code_section(folder: Path, repository: str, revision: str = UNPINNED) -> None:
    """SHA256SUMS, and at the end of the card the files that are executed and the commit to load.

    Args:
        repository: the name that the snippet loads, on the Hub or of a folder.
        revision: the commit that it pins.
    """
    sums = {name: sha256(folder / name) for name in files_of(folder) if name not in (SUMS, "README.md")}
    (folder / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()), encoding="utf-8")
    told = {name: digest for name, digest in sums.items() if name.endswith(".py")} | {SUMS: sha256(folder / SUMS)}
    rows = "\n".join(f"| `{name}` | `{digest}` |" for name, digest in told.items())
    unpinned = " `main` pins nothing: put a commit in its place." if revision == UNPINNED else ""
    section = SECTION.format(repository=repository, revision=revision, rows=rows, unpinned=unpinned)
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8").partition(HEADING)[0].rstrip()
    card.write_text(text + HEADING + section, encoding="utf-8")


def card_on_the_hub(api: HfApi, repository: str) -> str | None:
    """The text of its README.md; None where there is none."""
    try:
        return Path(api.hf_hub_download(repository, "README.md")).read_text(encoding="utf-8")
    except EntryNotFoundError:
        return None


def commit_folder(api: HfApi, folder: Path, repository: str, repo_type: str = "model") -> CommitInfo:
    """Make a repository's main branch this folder, in one commit; without one where it is so already."""
    here = files_of(folder)
    gone = sorted(set(api.list_repo_files(repository, repo_type=repo_type)) - {*here, ".gitattributes"})
    operations: list[CommitOperationAdd | CommitOperationDelete] = [CommitOperationDelete(name) for name in gone]
    operations += [CommitOperationAdd(name, str(folder / name)) for name in here]
    return api.create_commit(repository, operations, commit_message="Publish with TRRG", repo_type=repo_type)


def push(folder: Path, repository: str) -> str:
    """Make a model's repository this folder and pin the commit in its card.

    Returns:
        The commit that the card pins, which has all files; the one on top of it changes the card alone.

    Raises:
        SystemExit: the Hub refuses, or cannot be reached; without a token of the user in its words.
    """
    api = HfApi()
    with pushing(repository):
        api.create_repo(repository, exist_ok=True)
        there = card_on_the_hub(api, repository) or ""
        if pinned := PINNED.search(there):
            write_code_section(folder, repository, pinned[1])
            if (folder / "README.md").read_text(encoding="utf-8") == there:  # it holds the sums of all other files
                return pinned[1]
        write_code_section(folder, repository)
        commit = commit_folder(api, folder, repository).oid
        write_code_section(folder, repository, commit)
        card = CommitOperationAdd("README.md", str(folder / "README.md"))
        api.create_commit(repository, [card], commit_message=f"Pin {commit}")
    return commit


def push_space(folder: Path, repository: str, checkpoint: str) -> None:
    """Make a Space's repository this folder; its variable TRRG_CHECKPOINT names the model.

    Raises:
        SystemExit: as `push`.
    """
    api = HfApi()
    with pushing(f"the Space {repository}"):
        api.create_repo(repository, repo_type="space", space_sdk="gradio", exist_ok=True)
        api.add_space_variable(repository, "TRRG_CHECKPOINT", checkpoint)  # also of a Space that was there before
        commit_folder(api, folder, repository, "space")


@contextmanager
def pushing(place: str) -> Iterator[None]:
    """While the Hub is talked to, an error is one line that says how to go on.

    Raises:
        SystemExit: the Hub refuses, or cannot be reached.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the client raises errors of any type; a chained one could show what was sent
        raise SystemExit(f"Not pushed to {place}: {without_token(str(error))}\nThe same command goes on.") from None


def without_token(words: str) -> str:
    """The words of an error without the user's token, which a server may have sent back."""
    token = get_token()
    return words.replace(token, "<token>") if token else words
