"""Grey radiographs of any size -> squares, with the aspect ratio kept; and evidence maps back onto the radiograph."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers.feature_extraction_utils import BatchFeature
from transformers.image_processing_utils import BaseImageProcessor
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD


def content_box(height: int, width: int, size: int) -> tuple[int, int, int, int]:
    """Where a `height` x `width` image lies in the padded square of `size` pixels: (top, left, height, width)."""
    scale = size / max(height, width)
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    return (size - new_height) // 2, (size - new_width) // 2, new_height, new_width


class TRRGImageProcessor(BaseImageProcessor):
    """Resizes the longer side to `size` (antialiased bicubic), pads to a centred square with air, normalises.

    Nothing is cropped and nothing is squashed: laterality markers and the borders of the lungs stay, and angles and the
    cardiothoracic ratio are those of the radiograph.

    Args:
        size: side of the square, in pixels.
        image_mean, image_std: of the three (equal) channels, which the vision tower was trained with.
    """

    model_input_names = ["pixel_values", "image_mask"]  # noqa: RUF012 - the name and type Transformers expects

    def __init__(
        self,
        size: int = 224,
        image_mean: Sequence[float] = IMAGENET_DEFAULT_MEAN,
        image_std: Sequence[float] = IMAGENET_DEFAULT_STD,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"size: expected the side of a square in pixels, got {size!r}")
        if len(image_mean) != 3 or len(image_std) != 3 or min(image_std) <= 0:
            raise ValueError(f"expected 3 means and 3 positive deviations, got {image_mean!r} and {image_std!r}")
        self.size = size
        self.image_mean = list(image_mean)
        self.image_std = list(image_std)

    def preprocess(self, images: Sequence[np.ndarray], **kwargs) -> BatchFeature:
        """`n` grey images `[H, W]` in 0..1, as `read_radiograph` gives them -> `pixel_values` `[n, 3, size, size]`."""
        if kwargs:
            raise TypeError(f"unknown arguments: {', '.join(sorted(kwargs))}")
        return BatchFeature({"pixel_values": torch.stack([self._square(image) for image in images])})

    def _square(self, image: np.ndarray) -> torch.Tensor:
        top, left, height, width = content_box(image.shape[0], image.shape[1], self.size)
        grey = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))[None, None]
        grey = torch.nn.functional.interpolate(
            grey, (height, width), mode="bicubic", align_corners=False, antialias=True
        ).clamp(0, 1)
        square = torch.zeros(self.size, self.size)
        square[top : top + height, left : left + width] = grey[0, 0]
        mean, std = torch.tensor(self.image_mean), torch.tensor(self.image_std)
        return (square - mean[:, None, None]) / std[:, None, None]

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
