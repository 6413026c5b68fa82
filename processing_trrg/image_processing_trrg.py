# Copyright 2026 The TRRG package authors. Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License. You may obtain a copy of the License at
# https://www.apache.org/licenses/LICENSE-2.0. Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either
# express or implied. See the License for the specific language governing permissions and limitations under the License.
"""Radiographs of any size -> grey squares -> normalised pixels; and evidence maps back onto the radiograph.

This is the one way for a pixel: file -> `read_radiograph` -> `TRRGImageProcessor.square` -> `.normalise`. Inference
goes it at once, training keeps the squares in between; both get the same pixels, bit for bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers.feature_extraction_utils import BatchFeature
from transformers.image_processing_utils import BaseImageProcessor
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from transformers.processing_utils import ImagesKwargs

from .grey_trrg import GREY_RANGES, GreyRange, stretch
from .image_trrg import Radiograph, read_radiograph
from .picture_trrg import RadiographError

SETTINGS = (
    "size", "grey_range", "image_mean", "image_std", "do_rescale", "rescale_factor", "do_normalize"
)  # fmt: skip
SQUARE = "a radiograph is always resized and padded to a square, whole"
FIXED = {
    "do_resize": (True, SQUARE),
    "do_pad": (True, SQUARE),
    "do_center_crop": (False, SQUARE),
    "do_convert_rgb": (True, "the three channels are equal"),
    "data_format": ("channels_first", "the model takes no other"),
}
IMAGE_OPTIONS = {*SETTINGS, *FIXED, *ImagesKwargs.__annotations__} - {"return_tensors"}


class ContentBox(NamedTuple):  # trf-ignore: TRF057
    """Where a radiograph lies in its padded square, in pixels of the square."""

    top: int
    left: int
    height: int
    width: int


def content_box(height: int, width: int, size: int) -> ContentBox:
    """Where a radiograph of `height` x `width` pixels lies in the square of `size`: as large as it can be, centred."""
    scale = size / max(height, width)
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    return ContentBox((size - new_height) // 2, (size - new_width) // 2, new_height, new_width)


Box = tuple[float, float, float, float]
"""x, y, width and height in pixels; x and y of its upper left corner."""


class Placement(NamedTuple):  # trf-ignore: TRF057
    """How a radiograph of `height` x `width` pixels lies in its square of `size`. A box goes there and comes back the
    same; a pixel of the one reaches from its number to the next, as those of the other do."""

    height: int
    width: int
    size: int

    def box_on_square(self, box: Box) -> Box:
        """A box in pixels of the radiograph -> in pixels of the square."""
        top, left, height, width = content_box(*self)
        down, right = height / self.height, width / self.width
        x, y, w, h = box
        return left + x * right, top + y * down, w * right, h * down

    def box_on_image(self, box: Box) -> Box:
        """A box in pixels of the square -> in pixels of the radiograph, also beyond its border."""
        top, left, height, width = content_box(*self)
        down, right = self.height / height, self.width / width
        x, y, w, h = box
        return (x - left) * right, (y - top) * down, w * right, h * down


@dataclass(frozen=True)
class PreparedView:
    """A view that is no file any more but the square that `TRRGImageProcessor.square` made of it, as the image cache
    keeps it. `TRRGProcessor` takes it in place of a file, and only normalises it; boxes are in pixels of the square.

    square: uint8 `[size, size]`.
    """

    square: np.ndarray


class TRRGImageProcessor(BaseImageProcessor):  # trf-ignore: TRF057
    """Stretches the grey values, resizes the longer side to `size` (antialiased bicubic), pads to a centred square with
    air, rounds to 8 bits, normalises.

    Nothing is cropped and nothing is squashed: laterality markers and the borders of the lungs stay, and angles and the
    cardiothoracic ratio are those of the radiograph.

    Args:
        size: side of the square, in pixels.
        grey_range: which grey values become black and white: "percentiles", or "min_max" as MAIRA-2 and RaDialog have
            it; see `grey_trrg.py`. A processor saved before this field was written is loaded with "min_max", which is
            what it did: weights keep the pixels they were trained on.
        image_mean, image_std: of the three (equal) channels, which the vision tower was trained with.
        do_rescale, rescale_factor, do_normalize: as in Transformers. The vision towers need all of it.
    """

    model_input_names = ["pixel_values", "image_mask"]  # noqa: RUF012 - the name and type Transformers expects

    def __init__(
        self,
        size: int = 224,
        grey_range: GreyRange = "percentiles",
        image_mean: Sequence[float] = IMAGENET_DEFAULT_MEAN,
        image_std: Sequence[float] = IMAGENET_DEFAULT_STD,
        do_rescale: bool = True,
        rescale_factor: float = 1 / 255,
        do_normalize: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"size: expected the side of a square in pixels, got {size!r}")
        if len(image_mean) != 3 or len(image_std) != 3 or min(image_std) <= 0:
            raise ValueError(f"expected 3 means and 3 positive deviations, got {image_mean!r} and {image_std!r}")
        if grey_range not in GREY_RANGES:
            raise ValueError(f"grey_range: expected one of {', '.join(GREY_RANGES)}, got {grey_range!r}")
        self.size = size
        self.grey_range: GreyRange = grey_range
        self.image_mean = list(image_mean)
        self.image_std = list(image_std)
        self.do_rescale, self.rescale_factor, self.do_normalize = do_rescale, rescale_factor, do_normalize

    @classmethod
    def from_dict(cls, image_processor_dict: dict[str, Any], **kwargs):
        """As in Transformers. A saved processor without `grey_range` is from before the field, so it gets "min_max"."""
        return super().from_dict({"grey_range": "min_max", **image_processor_dict}, **kwargs)

    def with_options(self, **options: Any) -> "TRRGImageProcessor":
        """This processor with other settings, for a call that asks for them; itself where it asks for none.

        Raises:
            TypeError: an unknown setting.
            ValueError: a value that is not legal.
        """
        given = {name: value for name, value in options.items() if value is not None}
        for name, (value, reason) in FIXED.items():
            if given.pop(name, value) != value:
                raise ValueError(f"{name}: expected {value!r}, got {options[name]!r}: {reason}")
        if unknown := sorted(given.keys() - set(SETTINGS)):
            raise TypeError(f"unknown arguments: {', '.join(unknown)}")
        return type(self)(**{name: getattr(self, name) for name in SETTINGS} | given) if given else self

    # trf-ignore: TRF057
    def preprocess(self, images: Any, return_tensors: str | None = "pt", **options: Any) -> BatchFeature:
        """`n` views, anything that `read_radiograph` reads, alone or in lists -> `pixel_values` `[n, 3, size, size]`.

        Args:
            images: one view, a list of them, or a list of studies, which are lists of views.
            return_tensors: "pt" or "np".
            options: see `with_options`.

        Raises:
            RadiographError: a view cannot be read, or there is none.
        """
        if return_tensors not in (None, "pt", "np"):
            raise ValueError(f"return_tensors: expected 'pt' or 'np', got {return_tensors!r}")
        studies = images if isinstance(images, (list, tuple)) else [images]
        views = [view for study in studies for view in (study if isinstance(study, (list, tuple)) else [study])]
        if not views:
            raise RadiographError("images: no view")
        processor = self.with_options(**options)
        pixels = processor.normalise(processor.squares(views))
        return BatchFeature({"pixel_values": pixels.numpy() if return_tensors == "np" else pixels})

    def squares(self, images: Sequence) -> np.ndarray:
        """`n` views, anything that `read_radiograph` reads -> uint8 `[n, size, size]`, what the model sees of them.

        Raises:
            RadiographError: a view cannot be read.
        """
        return np.stack([self.square(read_radiograph(image, f"view {view}")) for view, image in enumerate(images)])

    def square(self, radiograph: Radiograph) -> np.ndarray:
        """A radiograph `[H, W]`, as `read_radiograph` gives it -> uint8 `[size, size]`: stretched, resized, in the
        middle of air."""
        grey = stretch(radiograph.values, radiograph.valid, self.grey_range)
        top, left, height, width = content_box(grey.shape[0], grey.shape[1], self.size)
        inner = torch.nn.functional.interpolate(
            torch.from_numpy(grey)[None, None], (height, width), mode="bicubic", align_corners=False, antialias=True
        )
        square = np.zeros((self.size, self.size), np.uint8)
        square[top : top + height, left : left + width] = inner[0, 0].clamp(0, 1).mul(255).round().byte().numpy()
        return square

    def normalise(self, squares: np.ndarray) -> torch.Tensor:
        """Squares, uint8 `[n, size, size]` -> pixels `[n, 3, size, size]` as the vision tower takes them.

        Raises:
            ValueError: another type or size.
        """
        if squares.dtype != np.uint8 or squares.shape[1:] != (self.size, self.size):
            raise ValueError(
                f"squares: expected uint8 [n, {self.size}, {self.size}], got {squares.dtype} {list(squares.shape)}"
            )
        grey = torch.from_numpy(squares).float()
        if self.do_rescale:
            grey.div_(1 / self.rescale_factor)  # 255 exactly, by default
        pixels = torch.empty(len(squares), 3, self.size, self.size)
        for channel, (mean, std) in enumerate(zip(self.image_mean, self.image_std, strict=True)):
            if not self.do_normalize:
                mean, std = 0.0, 1.0
            torch.sub(grey, mean, out=pixels[:, channel]).div_(std)  # in place: copies would cost more than the sums
        return pixels

    def evidence_on_image(self, evidence: np.ndarray, height: int, width: int) -> np.ndarray:
        """Undoes padding and resizing: a map `[h, w]` over the square -> `[height, width]` over the radiograph.

        Evidence that lies on the padding is cut away with it.
        """
        top, left, inner_height, inner_width = content_box(height, width, self.size)
        square = torch.from_numpy(np.ascontiguousarray(evidence, dtype=np.float32))[None, None]
        square = torch.nn.functional.interpolate(square, (self.size, self.size), mode="bilinear", align_corners=False)
        inner = square[..., top : top + inner_height, left : left + inner_width]
        return torch.nn.functional.interpolate(inner, (height, width), mode="bilinear", align_corners=False)[
            0, 0
        ].numpy()


TRRGImageProcessor.register_for_auto_class("AutoImageProcessor")
