"""Study records as they lie on disk: a folder with `studies.jsonl`, or `datasets` shards."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

REPORT_PARTS = ("findings", "impression")


class Studies:
    """The studies of one split of one set, in the order of the file.

    `studies.jsonl` names image files relative to its folder; shards (`datasets.Dataset.save_to_disk`, one folder per
    split or a `DatasetDict`) hold the same record with `bytes` beside `path` in each image.

    Raises:
        FileNotFoundError: neither form is at `path`.
        ValueError: a line is no study record, two studies share an id, or the split is empty; names file and line.
    """

    def __init__(self, path: str | Path, split: str, max_studies: int | None = None):
        self.path, self.split = Path(path), split
        if (self.path / "studies.jsonl").is_file():
            self.records: list[dict[str, Any]] = _read_jsonl(self.path / "studies.jsonl", split)
            self._shards = None
        elif (self.path / "dataset_dict.json").is_file() or (self.path / "state.json").is_file():
            self.records, self._shards = _read_shards(self.path, split)
        else:
            raise FileNotFoundError(f"{self.path}: neither studies.jsonl nor datasets shards (dataset_dict.json) there")
        self.records = self.records[:max_studies]
        if not self.records:
            raise ValueError(f"{self.path}: no study of split {split!r}")
        ids = [record["study_id"] for record in self.records]
        if len(set(ids)) != len(ids):
            twice = next(i for i in ids if ids.count(i) > 1)
            raise ValueError(f"{self.path}: study_id {twice!r} stands there twice")

    def __len__(self) -> int:
        return len(self.records)

    def open_image(self, index: int, view: int) -> bytes | Path:
        """What the image processor reads for one view: the shard's bytes or the file's path."""
        if self._shards is not None:
            return self._shards[index]["images"][view]["bytes"]
        return self.path / self.records[index]["images"][view]["path"]

    def image_key(self, index: int, view: int) -> str:
        """What changes when the image may have: the file's size and time, or the hash that the shards came with."""
        if self._shards is not None:
            return f"{self._shards._fingerprint}/{index}/{view}"
        file = self.path / self.records[index]["images"][view]["path"]
        status = file.stat()
        return f"{file}/{status.st_size}/{status.st_mtime_ns}"

    def num_views(self, index: int) -> int:
        return len(self.records[index]["images"])

    def labels(self, index: int, names: Sequence[str]) -> list[int | None]:
        """The study's labels in the order of `names`: 1 present, 0 absent, -1 uncertain, None not mentioned."""
        return [(self.records[index].get("labels") or {}).get(name) for name in names]


def target_text(record: dict[str, Any]) -> str:
    """The report of a study as one text, for counting and splitting: findings, then impression."""
    return " ".join(part.strip() for part in map(record.get, REPORT_PARTS) if part and part.strip())


def _read_jsonl(file: Path, split: str) -> list[dict[str, Any]]:
    records = []
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{file}:{number}: not JSON ({error.msg})") from error
            missing = {"study_id", "patient_id", "split", "images"} - record.keys()
            if missing:
                raise ValueError(f"{file}:{number}: no study record, {', '.join(sorted(missing))} missing")
            if record["split"] == split:
                records.append(record)
    return records


def _read_shards(path: Path, split: str) -> tuple[list[dict[str, Any]], Any]:
    from datasets import Dataset, DatasetDict, load_from_disk

    loaded = load_from_disk(str(path))
    if isinstance(loaded, DatasetDict):
        if split not in loaded:
            raise ValueError(f"{path}: no split {split!r}; splits: {', '.join(map(str, loaded))}")
        loaded = loaded[split]
    assert isinstance(loaded, Dataset)
    light = loaded.remove_columns("images").to_list()
    views = loaded.select_columns("images")
    for record, row in zip(light, _without_bytes(views), strict=True):
        record["images"] = row
    return light, loaded


def _without_bytes(views: Any) -> list[list[dict[str, Any]]]:
    column = views.with_format("arrow")[:]["images"]
    return [[{"path": image["path"].as_py(), "view": image["view"].as_py()} for image in images] for images in column]
