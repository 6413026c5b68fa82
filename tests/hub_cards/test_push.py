"""A push: what arrives, what happens where it is broken off, and what is told of it."""

import logging
import subprocess
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
from huggingface_hub import snapshot_download

from hub_cards import publish
from hub_cards.push import push, push_space, write_code_section
from tests.helpers.checkpoints import save_checkpoint
from tests.helpers.hub_server import HubServer, hub_server
from training.data.card import PHANTOMS

TOKEN, REPOSITORY = "hf_verySecretOfTheTests", "org/small"
CARD = "---\nlicense: apache-2.0\n---\n\n# A card\n"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with hub_server(monkeypatch) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that looks published."""
    for name, text in {"config.json": "{}", "model.safetensors": "weights", "a/tokenizer.json": "{}"}.items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_text(text)
    (tmp_path / "folder" / "modeling_trrg.py").write_text("print('hello')\n")
    (tmp_path / "folder" / "README.md").write_text(CARD)
    return tmp_path / "folder"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_arrives_is_the_folder_and_the_card_pins_a_commit_that_has_it(hub, folder, tmp_path):
    commit = push(folder, REPOSITORY)
    _, newest = hub.head(REPOSITORY)
    assert newest == contents(folder) | {".gitattributes": b""}
    card = newest["README.md"].decode()
    assert f'revision = "{commit}"' in card and f'model="{REPOSITORY}"' in card and card.startswith(CARD.rstrip())
    pinned = Path(snapshot_download(REPOSITORY, revision=commit))
    assert set(contents(pinned)) == set(newest)
    done = subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=pinned, capture_output=True, text=True)
    assert done.returncode == 0 and "modeling_trrg.py: OK" in done.stdout
    assert (
        subprocess.run(["sha256sum", "modeling_trrg.py"], cwd=pinned, capture_output=True).stdout[:64].decode() in card
    )

    before = list(hub.commits[REPOSITORY])
    assert push(folder, REPOSITORY) == commit and list(hub.commits[REPOSITORY]) == before, "nothing was new"
    (folder / "modeling_trrg.py").write_text("print('new')\n")
    (folder / "config.json").unlink()
    newer = push(folder, REPOSITORY)
    assert newer != commit and hub.head(REPOSITORY)[1] == contents(folder) | {".gitattributes": b""}
    assert f'revision = "{newer}"' in hub.head(REPOSITORY)[1]["README.md"].decode()


def test_a_push_that_is_broken_off_anywhere_is_simply_repeated(hub, folder, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    push(folder, "org/whole")
    count, files = len(hub.requests), contents(folder)
    for broken in range(1, count + 1):
        repository = f"org/broken{broken}"
        (folder / "model.safetensors").write_text(f"weights {broken}")
        hub.requests.clear()
        hub.refuse_at = broken
        if broken == 1:  # to create it
            with pytest.raises(SystemExit):
                push(folder, repository)
        else:
            try:
                push(folder, repository)
            except SystemExit as told:
                assert f"Not pushed to {repository}" in str(told) and "The same command goes on." in str(told)
                assert TOKEN not in str(told) and told.__suppress_context__
            for seen in list(hub.commits[repository].values())[1:]:
                assert set(seen) == {*files, ".gitattributes"}, "half a folder can be loaded"
        hub.refuse_at = None
        push(folder, repository)
        assert hub.head(repository)[1] == contents(folder) | {".gitattributes": b""}
        answered = [request for number, request in enumerate(hub.requests, 1) if number != broken]
        assert len([request for request in answered if request.startswith("PUT")]) == 1, "uploaded twice"
    told = capfd.readouterr()
    assert TOKEN not in caplog.text + told.out + told.err


def test_a_card_that_the_hub_refuses_is_told(hub, folder):
    (folder / "README.md").write_text("---\nlicense: other\n---\n# A card\n")
    with pytest.raises(SystemExit, match=r'Invalid metadata in README\.md\.\n- "license_name" is required'):
        push(folder, REPOSITORY)
    assert list(hub.commits[REPOSITORY]) == ["0" * 40]


def test_the_space_names_its_model(hub, tmp_path):
    publish.assemble_space(tmp_path / "space", REPOSITORY)
    (tmp_path / "space" / "__pycache__").mkdir()
    (tmp_path / "space" / "__pycache__" / "page.pyc").write_bytes(b"of a trial on this machine")
    push_space(tmp_path / "space", REPOSITORY, REPOSITORY)
    _, files = hub.head(f"spaces/{REPOSITORY}")
    told = files["README.md"].decode().split("---")[1]
    assert told.count(f"models:\n- {REPOSITORY}\n") == told.count(f"datasets:\n- {PHANTOMS}\n") == 1
    assert {"app.py", "requirements.txt", "hub_cards/space/page.py", "evaluation/reading/labeler.py"} <= set(files)
    assert hub.variables == {f"spaces/{REPOSITORY}": {"TRRG_CHECKPOINT": REPOSITORY}}
    push_space(tmp_path / "space", REPOSITORY, "org/other")  # it is there already
    assert hub.variables == {f"spaces/{REPOSITORY}": {"TRRG_CHECKPOINT": "org/other"}}
    assert len(hub.commits[f"spaces/{REPOSITORY}"]) == 2, "the folder was there already"
    assert not any("__pycache__" in name for name in files)


def test_a_folder_that_is_published_again_has_one_list(folder):
    write_code_section(folder, REPOSITORY)
    first = contents(folder)
    write_code_section(folder, REPOSITORY)
    assert contents(folder) == first and "`main` pins nothing" in first["README.md"].decode()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--push"], "--push needs --repo"),
        ([], "without --repo it needs --out"),
        (["--repo", "a/b/c"], "Repo id must be"),
        (["--repo", "org/name", "--push"], "is the template"),
        (["--repo", "org/name", "--push", "unfilled"], "is the template"),
        (["--repo", "org/name", "--push", "filled"], "no token of the Hub"),
    ],
)
def test_what_cannot_be_pushed_is_told(words, told, tmp_path, monkeypatch, capsys):
    checkpoint = save_checkpoint(tmp_path / "trrg-random", "maira1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(publish, "get_token", lambda: None)
    if words[-1:] in (["unfilled"], ["filled"]):
        card = publish.CARD_TEMPLATE.read_text() if words.pop() == "unfilled" else CARD
        (checkpoint / "README.md").write_text(card)
    with pytest.raises(SystemExit) as stopped:
        publish.main([str(checkpoint), *words])
    assert told in f"{stopped.value}{capsys.readouterr().err}"


@pytest.mark.slow
def test_the_command_pushes_and_loads_what_arrived_at_the_pinned_commit(hub, tmp_path, monkeypatch, capsys):
    checkpoint = save_checkpoint(tmp_path / "trrg-random", "trrg")
    (checkpoint / "README.md").write_text(CARD)
    monkeypatch.chdir(tmp_path)
    publish.main([str(checkpoint), "--repo", REPOSITORY, "--push", "--space", str(tmp_path / "space")])
    told = capsys.readouterr().out
    commit = next(name for name in hub.commits[REPOSITORY] if f"Loaded from there at {name}, it differs by 0." in told)
    loaded = [request for request in hub.requests if "/resolve/" in request and "README.md" not in request]
    assert loaded and all(f"/resolve/{commit}/" in request for request in loaded)
    assert any(request.endswith("/modeling_trrg.py") for request in loaded) and f"spaces/{REPOSITORY}" in hub.commits
