"""Whatever is wrong with an image, it is said in one way."""

import struct
import zlib

import pytest

from pace_tune.benchmarks.images import decode
from tests.benchmarks.layouts import png_bytes

WHOLE = png_bytes(size=(40, 40))
HEADER = 8 + 4
"""Where the type of the first chunk stands, after the signature and the chunk's length."""


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_sides(width: int, height: int) -> bytes:
    fields = WHOLE[HEADER + 12 : HEADER + 17]
    return WHOLE[:8] + chunk(b"IHDR", struct.pack(">II", width, height) + fields) + WHOLE[HEADER + 21 :]


def test_a_header_that_is_written_again_is_the_same_image():
    assert with_sides(40, 40) == WHOLE
    assert decode(WHOLE, side=16, fit="squash").shape == (3, 16, 16)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no image",
        WHOLE[:100],
        WHOLE[: HEADER + 21] + chunk(b"IDAT", b"\x78\x9c") + b"\0\0\0\x04\x01\x02\x03\x04" + b"x" * 40,
        with_sides(60_000, 60_000),
    ],
    ids=["nothing", "text", "cut", "broken chunk", "too large"],
)
def test_what_is_no_whole_image_is_an_error_of_one_kind(data: bytes):
    with pytest.raises(OSError, match=r"."):
        decode(data, side=16, fit="squash")
