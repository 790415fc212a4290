"""Image files to arrays, with Pillow."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from nasturtium.errors import DataError

UNREADABLE = (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError, EOFError)
GREY_MODES = {"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F"}
ORIENTATION = 0x0112
TURNED = (5, 6, 7, 8)


def header(path: Path) -> tuple[tuple[int, int], bool]:
    """(height, width) as it is to be seen, and whether it is grey; reads no pixels.

    Raises:
        DataError: it is no image that Pillow can read.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            if image.getexif().get(ORIENTATION) in TURNED:
                width, height = height, width
            return (height, width), image.mode in GREY_MODES
    except UNREADABLE as error:
        raise unreadable(f"'{path}'", error) from error


def decode(path: Path, *, channels: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """One image file; see `decode_bytes`."""
    try:
        with path.open("rb") as file:
            return decode_bytes(file, f"'{path}'", channels=channels, size=size)
    except OSError as error:
        raise unreadable(f"'{path}'", error) from error


def decode_bytes(file: BinaryIO, where: str, *, channels: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """One image as `(channels, height, width)` uint8.

    Turned as its EXIF data say; transparency is dropped, 16 bits become the upper 8. An image of another size is cut to
    the largest centred part of the wanted aspect ratio, which is resized (bilinear, with antialiasing).

    Args:
        file: A file that Pillow can read.
        where: For messages.
        channels: 1 for grey, 3 for colour.
        size: (height, width).

    Raises:
        DataError: it cannot be read.
    """
    try:
        with Image.open(file) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I"):
                image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
            image = image.convert("L" if channels == 1 else "RGB")
            if (image.height, image.width) != size:
                image = ImageOps.fit(image, (size[1], size[0]), method=Image.Resampling.BILINEAR)
            array = np.asarray(image)
    except UNREADABLE as error:
        raise unreadable(where, error) from error
    return array[None] if channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))


def unreadable(where: str, error: BaseException) -> DataError:
    """The error for an image that cannot be read."""
    return DataError(
        f"{where[:1].upper()}{where[1:]} must be an image that Pillow can read, but is not: {type(error).__name__}: "
        f"{error}. Repair or delete it."
    )
