"""Radiographs of a set as grey squares of the model's size, decoded once.

Decoding a 2,000-pixel PNG takes 50 times longer than augmenting a 224-pixel square, so the squares are kept in one
uint8 file that all epochs, processes and runs map into memory.
"""

import contextlib
import hashlib
import os
from pathlib import Path
from uuid import uuid4

import numpy as np
from tqdm import tqdm

from processing_trrg import Placement, TRRGImageProcessor, read_radiograph
from training.config.command_line import writing
from training.data.study import Box, Studies


class ImageBank:
    """`views` images of every study as the squares that the image processor makes of them, uint8 [size, size].

    cache: folder for the decoded squares; None decodes at every access. A cache is found by the set's files, their
        sizes and what the image processor makes of them, so another set or a changed file never meets an old cache.

    Raises:
        RadiographError: an image cannot be read; names the file. Nothing is replaced or skipped.
    """

    def __init__(self, studies: Studies, image_processor: TRRGImageProcessor, views: int, cache: str | None):
        self.studies, self.image_processor, self.views = studies, image_processor, views
        counts = [min(views, studies.num_views(i)) for i in range(len(studies))]
        self._first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self._file = None if cache is None or self._first[-1] == 0 else Path(cache) / f"{self._fingerprint()}.npy"
        self._squares: np.ndarray | None = None

    def prepare(self) -> None:
        """Decode what the cache lacks; called by one process before the others open it."""
        if self._file is None or self._file.exists():
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        partial = self._file.with_suffix(f".partial-{uuid4().hex}")  # another run may prepare the same cache
        shape = (int(self._first[-1]), self.image_processor.size, self.image_processor.size)
        try:
            with writing(self._file), partial.open("xb") as squares:
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(squares, header)
                for index in tqdm(range(len(self.studies)), desc=f"decode {self.studies.path.name}", unit="study"):
                    for view in range(self.num_views(index)):
                        # written, not mapped: on a full disk a write fails with an error, a map with SIGBUS
                        squares.write(self._decode(index, view).tobytes())
                squares.flush()
                os.fsync(squares.fileno())
            with contextlib.suppress(FileExistsError):  # the other run was first; its file stays
                os.link(partial, self._file)
        finally:
            partial.unlink(missing_ok=True)

    def num_views(self, index: int) -> int:
        """Views of study `index` that enter, at most the run's `data.views`."""
        return int(self._first[index + 1] - self._first[index])

    def get(self, index: int) -> list[np.ndarray]:
        """The squares of a study's views, uint8 [size, size]."""
        if self._file is None:
            return [self._decode(index, view) for view in range(self.num_views(index))]
        if self._squares is None:
            self._squares = np.load(self._file, mmap_mode="r")
        return [np.array(self._squares[row]) for row in range(self._first[index], self._first[index + 1])]

    def placement(self, index: int) -> Placement:
        """How a study's first view, in whose pixels its boxes are, lies in its square."""
        height, width = read_radiograph(self.studies.open_image(index, 0)).values.shape
        return Placement(height, width, self.image_processor.size)

    def boxes_on_square(self, index: int) -> list[Box]:
        """The boxes of a study's first view, in pixels of its square."""
        boxes = self.studies.records[index].boxes
        if not boxes:
            return []
        place = self.placement(index).box_on_square
        moved = [place((box["x"], box["y"], box["w"], box["h"])) for box in boxes]
        return [{**box, "x": x, "y": y, "w": w, "h": h} for box, (x, y, w, h) in zip(boxes, moved, strict=True)]

    def _decode(self, index: int, view: int) -> np.ndarray:
        source = self.studies.open_image(index, view)
        name = f"{self.studies.path}: {self.studies.records[index]['study_id']}, view {view}"
        return self.image_processor.square(read_radiograph(source, name))

    def _fingerprint(self) -> str:
        processor = self.image_processor
        # "whole": caches of earlier names may have holes, which two runs at once could leave
        kind = f"whole/{processor.grey_range}/{processor.size}/{self.views}"
        digest = hashlib.blake2b(kind.encode(), digest_size=12)
        for index in range(len(self.studies)):
            for view in range(self.num_views(index)):
                digest.update(self.studies.image_key(index, view).encode())
        return f"{self.studies.path.name}-{self.studies.split}-{digest.hexdigest()}"
