"""A server on the loopback that answers the calls by which `huggingface_hub` makes a repository, uploads to it and
loads from it: create, validate-yaml, preupload, LFS, commit, tree, revision, resolve. It knows no Xet storage."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import huggingface_hub.constants
import pytest
import yaml
from huggingface_hub import DatasetCard, DatasetCardData

LARGE = (".safetensors", ".png")
Files = dict[str, bytes]


class HubServer:
    """Repositories in memory.

    Attributes:
        commits: of each repository ("spaces/org/name" for a Space), the files of each commit by its name, oldest first.
        objects: large files by their SHA-256, also those that no commit has yet.
        requests: method and path of each request.
        variables: of each Space.
        refuse_at: the number of the request that is answered by an error, with the token in it; None for none.
    """

    def __init__(self) -> None:
        self.commits: dict[str, dict[str, Files]] = {}
        self.objects: Files = {}
        self.requests: list[str] = []
        self.variables: dict[str, dict[str, str]] = {}
        self.refuse_at: int | None = None
        self.address = ""

    def head(self, repository: str) -> tuple[str, Files]:
        """Name and files of the newest commit."""
        return list(self.commits[repository].items())[-1]

    def oid(self, name: str, content: bytes) -> str:
        if name.endswith(LARGE):
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    def answer(self, method: str, path: str, body: bytes, token: str) -> tuple[int, Any, dict[str, str]]:
        self.requests.append(f"{method} {path}")
        if len(self.requests) == self.refuse_at:
            return 403, {"error": f"not with {token}"}, {}
        parts = unquote(urlsplit(path).path).strip("/").split("/")
        if parts[:1] == ["lfs"]:
            assert hashlib.sha256(body).hexdigest() == parts[1]
            self.objects[parts[1]] = body
            return 200, {}, {}
        if parts[:2] == ["api", "validate-yaml"]:
            faults = card_faults(json.loads(body)["content"])
            return (400 if faults else 200), {"errors": [{"message": fault} for fault in faults], "warnings": []}, {}
        if parts[:3] == ["api", "repos", "create"]:
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            name = f"spaces/{name}" if asked.get("type") == "space" else name
            exists = name in self.commits
            self.commits.setdefault(name, {"0" * 40: {".gitattributes": b""}})
            return (409 if exists else 200), {"url": f"{self.address}/{name}"}, {}
        if parts[0] == "api":
            kind, name, what = parts[1], "/".join(parts[2:4]), parts[4:]
            repository = f"spaces/{name}" if kind == "spaces" else name
            if repository not in self.commits:
                return 404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"}
            if what == ["variables"]:
                told = json.loads(body)
                self.variables.setdefault(repository, {})[told["key"]] = told["value"]
                return 200, {key: {"value": value} for key, value in self.variables[repository].items()}, {}
            return self.api(repository, what, body)
        if parts[-3:] == ["lfs", "objects", "batch"]:
            wanted = json.loads(body)["objects"]
            for large in wanted:
                if large["oid"] not in self.objects:
                    large["actions"] = {"upload": {"href": f"{self.address}/lfs/{large['oid']}"}}
            return 200, {"objects": wanted, "transfer": "basic"}, {}
        start = parts.index("resolve")
        repository, revision, name = "/".join(parts[:start]), parts[start + 1], "/".join(parts[start + 2 :])
        if repository not in self.commits:
            return 404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"}
        commit, files = self.at(repository, revision)
        if name not in files:
            return 404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}
        return 200, files[name], {"X-Repo-Commit": commit, "ETag": f'"{self.oid(name, files[name])}"'}

    def at(self, repository: str, revision: str) -> tuple[str, Files]:
        return self.head(repository) if revision == "main" else (revision, self.commits[repository][revision])

    def api(self, repository: str, what: list[str], body: bytes) -> tuple[int, Any, dict[str, str]]:
        commit, files = self.at(repository, what[1] if len(what) > 1 else "main")
        if what[:1] == ["preupload"]:
            told = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                    "shouldIgnore": False,
                    "oid": self.oid(file["path"], files[file["path"]]) if file["path"] in files else None,
                }
                for file in json.loads(body)["files"]
            ]
            return 200, {"files": told}, {}
        if what[:1] == ["commit"]:
            files = dict(files)
            for line in body.splitlines():
                change = json.loads(line)
                kind, value = change["key"], change["value"]
                if kind == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif kind == "lfsFile":
                    files[value["path"]] = self.objects[value["oid"]]
                elif kind == "deletedFile":
                    del files[value["path"]]
            commit = hashlib.sha1(body + commit.encode()).hexdigest()
            self.commits[repository][commit] = files
            return 200, {"commitUrl": f"{self.address}/{repository}/commit/{commit}", "commitOid": commit}, {}
        under = f"{what[2]}/" if what[:1] == ["tree"] and len(what) > 2 else ""
        names = [name for name in files if name.startswith(under)]
        if what[:1] == ["tree"]:
            rows = [{"type": "file", "path": n, "size": len(files[n]), "oid": self.oid(n, files[n])} for n in names]
            return (200, rows, {}) if rows else (404, {"error": "none"}, {"X-Error-Code": "EntryNotFound"})
        return 200, {"id": repository, "sha": commit, "siblings": [{"rfilename": name} for name in names]}, {}


def card_faults(text: str) -> list[str]:
    """What the Hub documents as wrong in a card's metadata, as far as it can be told here."""
    data = yaml.safe_load(text.split("---\n")[1]) if text.startswith("---\n") else {}
    faults = []
    if data.get("license") == "other" and not data.get("license_name"):
        faults.append('"license_name" is required')
    if not re.fullmatch(r"n<1K|1K<n<10K|10K<n<100K|100K<n<1M|1M<n<10M", data.get("size_categories", "n<1K")):
        faults.append("size_categories is none of the Hub's")
    for model in data.get("model-index", []):
        for result in model["results"]:
            if not result["task"].get("type") or not {"type", "name"} <= set(result["dataset"]):
                faults.append("model-index: task.type, dataset.type and dataset.name are required")
            if any("type" not in metric or metric.get("value") is None for metric in result["metrics"]):
                faults.append("model-index: a metric needs type and value")
    return faults


def checked_card(folder: Path) -> DatasetCard:
    """The card beside a data set, which the Hub's client reads as it was written and the Hub would take."""
    card = DatasetCard.load(folder / "README.md")
    assert DatasetCardData(**card.data.to_dict()).to_dict() == card.data.to_dict() and not card_faults(str(card))
    assert "never for clinical use" in card.text and str(folder) not in card.text
    return card


@contextmanager
def hub_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A running server, which this process's `huggingface_hub` takes for the Hub, online and without Xet."""
    hub = HubServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, answer, headers = hub.answer(self.command, self.path, body, self.headers.get("Authorization", ""))
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            if not isinstance(answer, bytes):
                self.send_header("Content-Type", "application/json")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_HEAD = do_POST = do_PUT = do_GET

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    for name, value in (("ENDPOINT", hub.address), ("HF_HUB_OFFLINE", False), ("HF_HUB_DISABLE_XET", True)):
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    for name, value in (("HF_ENDPOINT", hub.address), ("HF_HUB_DISABLE_XET", "1"), ("NO_PROXY", "127.0.0.1")):
        monkeypatch.setenv(name, value)
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
