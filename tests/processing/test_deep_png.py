"""PNG files of 16-bit colours, of which Pillow alone keeps 8 bits."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from processing_trrg import RadiographError, read_radiograph
from tests.helpers.deep_png import DEEP, chunk, deep_png


def refusal(data: bytes) -> str:
    with pytest.raises(RadiographError) as caught:
        read_radiograph(data)
    return str(caught.value)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("channels", [(DEEP,) * 3, (DEEP, 65535), (DEEP, DEEP, DEEP, 65535)])
def test_colours_of_16_bits_keep_their_levels(channels: tuple, interlaced: bool):
    data = deep_png(*channels, interlaced=interlaced)
    upper = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))[..., 0]  # as Pillow alone reads it
    assert np.array_equal(upper, DEEP >> 8)
    values = read_radiograph(data).values
    assert values.dtype == np.uint16 and np.array_equal(values, DEEP)
    if channels[-1] is not DEEP:
        assert "partly transparent" in refusal(deep_png(*channels[:-1], 65535 - DEEP, interlaced=interlaced))
    for share in (0.3, 0.9):
        cut = data[41 : 41 + int(share * (len(data) - 57))]
        assert "cut short" in refusal(data[:33] + chunk(b"IDAT", cut) + chunk(b"IEND", b""))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = deep_png(*channels, parts=chunk(b"eXIf", exif.tobytes()[6:]))
    assert np.array_equal(read_radiograph(turned).values, np.rot90(DEEP, -1))


def test_a_transparent_colour_of_16_bits_is_compared_in_full():
    for grey, found in ((int(DEEP[5, 5]), True), (5000, False)):
        data = deep_png(DEEP, DEEP, DEEP, parts=chunk(b"tRNS", struct.pack(">3H", grey, grey, grey)))
        assert "partly transparent" in refusal(data) if found else np.array_equal(read_radiograph(data).values, DEEP)


def test_nearly_grey_and_coloured_pictures_of_16_bits():
    for interlaced in (False, True):
        values = read_radiograph(deep_png(DEEP, DEEP + 3, DEEP + 6, interlaced=interlaced)).values
        assert np.array_equal(values, DEEP + 3.0)
    assert "coloured" in refusal(deep_png(DEEP, DEEP, DEEP.max() - DEEP))
