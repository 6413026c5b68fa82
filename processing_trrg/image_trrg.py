"""Reads one radiograph, from a file, bytes, an array or a picture, as one channel of grey values, air darker than bone.

The values keep the unit of the source; which of them become black and white is the image processor's to say
(`grey_trrg.py`), by rules that do not depend on the unit. So the same radiograph gives the same pixels as an 8-bit PNG,
a 16-bit PNG, a float array and a DICOM of either polarity. An image without any contrast is refused, and so is noise.
"""

import base64
import math
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageChops

from .dicom_trrg import decode_dicom, is_dicom
from .picture_trrg import MAX_PIXELS, RadiographError, check_size, decode_picture, upright

MAX_BYTES = 2 * MAX_PIXELS + 8 * 1024**2
"""Of a file: the largest picture with 16 bits a pixel, not compressed, and what a header takes."""
GRID = 64
"""Samples along each side, which tell noise and blank pictures from radiographs."""
MAX_NOISE = 1 / 3
"""Half the mean squared difference of neighbouring samples over their variance, samples beyond the 1st and 99th
percentile moved there: 1 for noise, 0.5 for noise in a black frame an eighth wide, 0.4 where half of the picture is
black; 0.25 at most in 9,245 real chest X-rays."""
MAX_SAME = 0.99
"""Share of the samples that may have one value; 0.56 at most in the same X-rays."""
BASE64 = re.compile(r"\s*(?:[A-Za-z0-9+/]\s{0,2}){100}")  # what no path begins with, and the smallest image does
MAX_PATH = 4096  # characters; a longer one is none
SPACE = re.compile(r"\s")
TRANSPARENT = "the image is partly transparent"
BAND = 256  # rows of a colour picture that are looked at together, so that no second copy of it is needed

RadiographSource = str | os.PathLike | bytes | Image.Image | np.ndarray | torch.Tensor


class Radiograph(NamedTuple):
    """One view as it was read.

    values: `[H, W]` of any real type, in the unit of the source, finite, not all equal.
    valid: `[H, W]`, False where the header of a DICOM says padding; None for no padding.
    """

    values: np.ndarray
    valid: np.ndarray | None = None


def read_radiograph(source: RadiographSource, name: str = "image") -> Radiograph:
    """Reads one view.

    Args:
        source: path of a PNG, JPEG or DICOM file, the bytes of one, these in base64 or as a `data:` URI, a PIL image,
            or an array or tensor of shape `[H, W]`, `[1, H, W]`, `[3, H, W]` or channels last, of any real type and
            unit, air darker than bone. Of 16-bit colours give the file: Pillow keeps 8 bits of them, and a picture
            that is already opened does not tell.
        name: what errors call a source that has no path.

    Raises:
        RadiographError: unreadable, cut short, smaller than 32 pixels a side, larger than 8192 x 8192, longer than
            four times its width or wider than four times its height, NaN or infinite, without contrast, noise, in
            colour (in more than 1 % of the pixels the channels differ by more than a tenth of the range), partly
            transparent, of several frames, or a DICOM that is not a projection radiograph.
        ImportError: a DICOM is given and pydicom is not installed.
    """
    if (
        isinstance(source, (str, os.PathLike))
        and len(str(source)) < 300
        and not str(source).lower().startswith("data:")
    ):
        name = str(source)
    try:
        return _check_values(Radiograph(*_decode(source)))
    except RadiographError as error:
        raise RadiographError(f"{name}: {error}") from None


def list_views(folder: str | os.PathLike) -> list[Path]:
    """The files of a study's folder sorted by name, without hidden files and sub-folders.

    Raises:
        RadiographError: the folder holds no file, or cannot be opened.
    """
    try:
        files = sorted(path for path in Path(folder).iterdir() if path.is_file() and not path.name.startswith("."))
    except OSError as error:
        raise RadiographError(f"{folder}: cannot open the folder: {error.strerror}") from None
    if not files:
        raise RadiographError(f"{folder}: the folder holds no image")
    return files


def _decode(source) -> tuple[np.ndarray, np.ndarray | None]:
    """Grey values in their own unit, and which of them are not padding (None: all)."""
    if isinstance(source, (str, os.PathLike)):
        source = _read_bytes(str(source))
    if isinstance(source, (bytes, bytearray)):
        if not source:
            raise RadiographError("the file is empty")
        source = bytes(source)
        if is_dicom(source):
            return decode_dicom(source)
        images = decode_picture(source)
        return _grey_of_picture(images[0]) if len(images) == 1 else _grey_of_channels(images), None
    if isinstance(source, Image.Image):
        return _grey_of_picture(upright(source)), None
    if isinstance(source, torch.Tensor):
        tensor = source.detach().cpu()
        source = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    if isinstance(source, np.ndarray):
        return _grey(source), None
    raise RadiographError(f"expected a path, bytes, a PIL image, an array or a tensor, got {type(source).__name__}")


def _read_bytes(source: str) -> bytes:
    """The bytes of a file, of a `data:` URI, or of base64 text, which is no file's name and as long as an image."""
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", source):
        raise RadiographError(
            "a URL, and nothing is fetched from a network here; load it first, for instance with "
            "transformers.image_utils.load_image, and pass the picture"
        )
    if source[:5].lower() == "data:":
        head, comma, text = source.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise RadiographError("expected a data: URI in base64, data:image/png;base64,...")
        return _decode_base64(text)
    if "\0" in source:
        raise RadiographError("not a path; only local files are read")
    is_text = BASE64.match(source)
    if is_text and len(source) > MAX_PATH:
        return _decode_base64(source)
    try:
        status = Path(source).stat()
        if not stat.S_ISREG(status.st_mode):
            raise RadiographError("not a file")
        if status.st_size > MAX_BYTES:
            raise RadiographError(f"the file has {status.st_size:,} bytes, at most {MAX_BYTES:,} are read")
        return Path(source).read_bytes()
    except UnicodeEncodeError:  # half of a surrogate pair
        raise RadiographError("not a path: it has characters that no file name can have") from None
    except OSError as error:
        if is_text:
            return _decode_base64(source)
        raise RadiographError(f"cannot open the file: {error.strerror}") from None


def _decode_base64(text: str) -> bytes:
    if len(text) > MAX_BYTES * 4 // 3 + 4:
        raise RadiographError(f"{len(text):,} characters of base64, at most {MAX_BYTES:,} bytes are read")
    try:
        return base64.b64decode(re.sub(r"\s+", "", text) if SPACE.search(text) else text, validate=True)
    except ValueError:  # of another alphabet, cut short, or no ASCII
        raise RadiographError("damaged or cut short base64") from None


def _check_values(radiograph: Radiograph) -> Radiograph:
    values, valid = radiograph
    check_size(*values.shape)
    inside = values if valid is None else values[valid]
    if inside.size == 0:
        raise RadiographError("every pixel is padding")
    low, high = float(inside.min()), float(inside.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise RadiographError(f"{int((~np.isfinite(inside)).sum()):,} pixels are NaN or infinite")
    if low == high:
        raise RadiographError("all pixels have the same value: an image without contrast is not a radiograph")
    if not 1e-300 < high - low < np.inf:
        raise RadiographError(f"the values go from {low:g} to {high:g}: nothing can be computed with their difference")
    rows, columns = (slice(None, None, max(1, side // GRID)) for side in values.shape)
    _check_samples(values[rows, columns].astype(np.float64), None if valid is None else valid[rows, columns])
    return radiograph


def _check_samples(samples: np.ndarray, known: np.ndarray | None) -> None:
    """Refuses what no radiograph looks like, by evenly spaced samples `[h, w]` and which of them are known, that is no
    padding (None: all)."""
    inside = np.sort(samples, axis=None) if known is None else np.sort(samples[known])
    if inside.size == 0:
        return
    ends = np.flatnonzero(inside[1:] != inside[:-1])  # of runs of one value
    longest = max(np.diff(ends).max(initial=0), ends[0] + 1, inside.size - 1 - ends[-1]) if ends.size else inside.size
    if longest > MAX_SAME * inside.size:
        raise RadiographError(
            f"{longest / inside.size:.1%} of the pixels have the same value: a radiograph has more contrast"
        )
    low, high = inside[inside.size // 100], inside[-1 - inside.size // 100]
    if low == high:
        return
    samples = samples.clip(low, high) / max(abs(low), abs(high))  # squared below, and of any unit
    down, right = samples[1:] - samples[:-1], samples[:, 1:] - samples[:, :-1]
    if known is not None:
        down, right, samples = down[known[1:] & known[:-1]], right[known[:, 1:] & known[:, :-1]], samples[known]
    down, right = down.ravel(), right.ravel()
    samples = samples - samples.mean()
    spread = 2 * MAX_NOISE * np.vdot(samples, samples) / samples.size
    if spread and (down @ down + right @ right) > spread * (down.size + right.size):
        raise RadiographError("the pixels are noise: neighbours have nothing in common, as they have in a radiograph")


def _grey_of_picture(image: Image.Image) -> np.ndarray:
    """One grey channel of a decoded picture; transparency only as long as nothing is transparent."""
    transparent = image.info.get("transparency")
    if image.mode in ("L", "I", "F") and transparent is None:
        return np.asarray(image)
    if image.mode.startswith("I;16"):
        values = np.asarray(image)
        if transparent is not None and (values == transparent).any():
            raise RadiographError(TRANSPARENT)
        return values
    if image.mode not in ("L", "LA", "P", "PA", "RGB", "RGBA"):
        raise RadiographError(f"expected a grey image of 8 or 16 bits, or grey stored as RGB, got mode {image.mode!r}")
    if image.mode not in ("RGB", "RGBA") or transparent is not None:
        image = image.convert("RGBA")
    red, green, blue, *alpha = image.split()
    if alpha and alpha[0].getextrema() != (255, 255):
        raise RadiographError(TRANSPARENT)
    if not any(ImageChops.difference(red, other).getbbox() for other in (green, blue)):
        return np.asarray(red)

    def band(top: int) -> np.ndarray:
        return np.asarray(image.crop((0, top, image.width, min(top + BAND, image.height))))[..., :3]

    return _mean_of_channels(band, image.height)


def _grey_of_channels(images: list[Image.Image]) -> np.ndarray:
    """One grey channel of the channels of 16-bit colours, or of grey with alpha."""
    channels = {id(image): np.asarray(image) for image in images}
    if len(images) != 3 and (channels[id(images[-1])] < 0xFF00).any():
        raise RadiographError(TRANSPARENT)
    colours = [channels[id(image)] for image in images[: 3 if len(images) > 2 else 1]]
    transparent = images[0].info.get("transparency")
    if transparent and np.logical_and.reduce([*map(np.equal, colours, transparent)]).any():
        raise RadiographError(TRANSPARENT)
    if all(colour is colours[0] for colour in colours):
        return colours[0]
    return _mean_of_channels(lambda top: np.stack([colour[top : top + BAND] for colour in colours], 2), len(colours[0]))


def _grey(array: np.ndarray) -> np.ndarray:
    """One grey channel of an array."""
    if array.dtype.kind not in "uif":
        raise RadiographError(f"expected an array of integers or floats, got {array.dtype}")
    if array.ndim == 2:
        return array
    if array.ndim != 3 or not {array.shape[0], array.shape[2]} & {1, 3}:
        raise RadiographError(f"expected an array [H, W], or with 1 or 3 channels, got shape {tuple(array.shape)}")
    if array.shape[2] not in (1, 3):
        array = array.transpose(1, 2, 0)
    check_size(*array.shape[:2])
    if array.shape[2] == 1:
        return array[..., 0]
    if np.array_equal(array[..., 0], array[..., 1]) and np.array_equal(array[..., 0], array[..., 2]):
        return array[..., 0].copy()
    return _mean_of_channels(lambda top: array[top : top + BAND], array.shape[0])


def _mean_of_channels(band: Callable[[int], np.ndarray], height: int) -> np.ndarray:
    """The mean of three channels that nearly agree.

    Args:
        band: `[at most BAND, W, 3]`, the rows of the picture from one row on.
    """
    tops = range(0, height, BAND)
    low, high = (float(end) for end in (min(map(np.min, map(band, tops))), max(map(np.max, map(band, tops)))))
    rows = band(0)
    grey = np.empty((height, rows.shape[1]), np.float32 if rows.dtype.itemsize <= 2 else np.float64)
    coloured = 0
    for top in tops:
        red, green, blue = np.moveaxis(band(top), 2, 0).astype(np.float64)
        spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
        coloured += int(np.count_nonzero(spread > 0.1 * (high - low)))
        grey[top : top + BAND] = (red + green + blue) / 3
    if coloured > 0.01 * grey.size:
        raise RadiographError(f"{coloured / grey.size:.0%} of the pixels are coloured: a radiograph is grey")
    return grey
