"""One image from a file to RGB pixels, and from there to the square the network sees.

Everything is decoded completely; whatever goes wrong is `Unreadable` with a reason short enough for a list.
"""

from __future__ import annotations

import importlib
import os
import stat
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError, features

from tuner.images import sniff

DECODER = "1"
"""Raise it when the pixels of any image would come out differently: it is part of every cache key."""

MAX_PIXELS = 80_000_000
MIN_SIDE = 16
MAX_ASPECT = 20

Pixels = NDArray[np.uint8]

_BAND = 1 << 22  # pixels converted to float32 at a time by `to_square`: 16 MiB
_TO_BYTE = np.rint(np.arange(65536) / 257).astype(np.uint8)  # 16 bit to 8 bit: 65535 becomes 255, 32896 becomes 128


class Unreadable(Exception):
    """A file that cannot be used as an image. `lasting` is False when another machine or another day may differ."""

    def __init__(self, reason: str, *, lasting: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.lasting = lasting


@dataclass(frozen=True)
class Decoded:
    """pixels: uint8 (height, width, 3), RGB, upright. format, mode: as stored. frames: True if the file has several."""

    pixels: Pixels
    format: str
    mode: str
    frames: bool


def version() -> str:
    """What decoded pixels depend on beside the file."""
    return f"decoder {DECODER}, pillow {PIL.__version__}"


def load_photograph(path: Path) -> Pixels:
    """Decodes a file completely: uint8 (height, width, 3), RGB, full size, EXIF orientation applied.

    Transparency lies on white, 16 bits are scaled to 8, grey is replicated, of several frames the first counts.
    Raises Unreadable.
    """
    with open_file(path) as stream, open_header(stream) as image:
        return decode(image).pixels


def open_file(path: Path) -> BufferedReader:
    """Opens a regular file for reading; anything else (a pipe would hang) is Unreadable."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise Unreadable("not a regular file", lasting=False)
        return open(path, "rb")
    except OSError as error:
        raise _unreadable(error, path.name) from error


def open_header(stream: BufferedReader) -> Image.Image:
    """Recognises the format by content and checks the size before any pixel is decoded. Raises Unreadable."""
    kind = "file"
    try:
        head = stream.read(sniff.HEAD)
        stream.seek(0)
        kind = sniff.kind(head)
        reader = _reader(kind, head)
        if kind == "PNG":  # decoding skips the checksums of pixel chunks: a flipped bit would go unseen
            with Image.open(stream, formats=("PNG",)) as probe:
                _check_size(*probe.size)
                probe.verify()
            stream.seek(0)
        image = Image.open(stream, formats=(reader,))
    except Unreadable:
        raise
    except Exception as error:  # Pillow's readers raise OSError, SyntaxError, ValueError, struct.error and more
        raise _unreadable(error, kind) from error
    _check_size(*image.size)
    return image


def decode(image: Image.Image) -> Decoded:
    """Decodes what `open_header` opened. Raises Unreadable."""
    name = str(image.format or "image")
    mode = image.mode
    try:
        image.load()
        pixels = _upright(_rgb(image), _orientation(image))
        return Decoded(pixels, name, mode, _several_frames(image))
    except Unreadable:
        raise
    except Exception as error:
        raise _unreadable(error, name) from error


def to_square(image: Pixels, size: int, mode: str) -> Pixels:
    """Resizes uint8 (height, width, 3) to uint8 (size, size, 3).

    mode: "crop" (shorter side, centre), "pad" (black bars) or "squash". Equals keras.layers.Resizing with bilinear
    interpolation and antialiasing, rounded: the exported model resizes with that layer. Pillow filters float32 channels
    with the same triangle kernel; its 8-bit path rounds between the two passes and is not exact enough.
    """
    height, width = image.shape[:2]
    top = left = 0
    if mode == "crop":
        kept_height = max(min(height, _keras_side(width, size)), 1)
        kept_width = max(min(width, _keras_side(height, size)), 1)
        y, x = (height - kept_height) // 2, (width - kept_width) // 2
        image = image[y : y + kept_height, x : x + kept_width]
    elif mode == "pad":  # Keras puts the same bar on both sides, so an odd difference leaves the padded image one short
        top = (max(height, _keras_side(width, size)) - height) // 2
        left = (max(width, _keras_side(height, size)) - width) // 2
    square = np.empty((size, size, 3), np.uint8)
    for channel in range(3):
        values = _resample(image[:, :, channel], top, left, size)
        square[:, :, channel] = np.clip(np.rint(values), 0, 255)
    return square


# ---- opening -------------------------------------------------------------------------------------------------------


def _reader(kind: str, head: bytes) -> str:
    """Pillow's name of the reader for this content, or Unreadable for what is not read."""
    if not head:
        raise Unreadable("empty file")
    if kind == "HEIC":
        try:
            importlib.import_module("pillow_heif").register_heif_opener()
        except ImportError:
            raise Unreadable("HEIC: install pillow-heif to read it, or save as JPEG", lasting=False) from None
        return "HEIF"
    if kind == "AVIF" and not features.check("avif"):
        raise Unreadable("AVIF: this Pillow was built without it; update Pillow or save as JPEG", lasting=False)
    if kind not in sniff.IMAGES:
        raise Unreadable(f"not an image ({kind})" if kind else f"not an image (begins with {head[:8].hex(' ')})")
    return kind  # the reader of JPEG tells MPO itself


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise Unreadable(
            f"too large ({width}x{height}, {width * height / 1e6:.0f} megapixels; at most {MAX_PIXELS // 10**6})"
        )
    if min(width, height) < MIN_SIDE:
        raise Unreadable(f"too small ({width}x{height}; at least {MIN_SIDE} pixels a side)")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise Unreadable(f"too narrow ({width}x{height}; at most {MAX_ASPECT}:1)")


def _unreadable(error: Exception, name: str) -> Unreadable:
    """One short reason for any of the ways Pillow fails."""
    text = " ".join(str(error).split())
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return Unreadable(f"too large (at most {MAX_PIXELS // 10**6} megapixels)")
    if isinstance(error, UnidentifiedImageError):
        return Unreadable(f"damaged {name} (its header cannot be read)")
    if isinstance(error, MemoryError):
        return Unreadable("not enough memory to decode it", lasting=False)
    if isinstance(error, OSError) and error.errno is not None:
        return Unreadable(f"cannot be read ({error.strerror})", lasting=False)
    if isinstance(error, EOFError) or "truncated" in text.lower() or "unexpected end" in text.lower():
        return Unreadable(f"truncated {name}")
    return Unreadable(f"damaged {name} ({text[:80] or type(error).__name__})")


# ---- pixels --------------------------------------------------------------------------------------------------------


def _rgb(image: Image.Image) -> Pixels:
    """Any of Pillow's modes to uint8 (height, width, 3)."""
    if image.mode.startswith("I;16"):  # convert("RGB") would clip all but the darkest 255 of 65,536 levels to white
        sixteen = np.asarray(image if image.mode in ("I;16", "I;16L", "I;16B") else image.convert("I"))
        return _grey(_TO_BYTE[sixteen.astype(np.uint16, copy=False)])
    if image.mode in ("I", "F"):
        return _grey(_scaled(np.asarray(image)))
    if image.has_transparency_data:  # hidden colours stand under transparent pixels: a viewer shows the page, white
        if image.mode == "La":
            image = image.convert("LA")
        colour = image.convert("RGBA")
        white = Image.new("RGBA", colour.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, colour)
    return np.asarray(image.convert("RGB"))


def _grey(values: Pixels) -> Pixels:
    return np.repeat(values[:, :, None], 3, axis=2)


def _scaled(values: NDArray[Any]) -> Pixels:
    """Scientific TIFFs do not say what white is: 1, 255 and 65535 are the conventions, else the image's own range."""
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(low) or not np.isfinite(high):
        raise Unreadable("pixels that are not finite numbers")
    if low < 0 or high > 65535:
        scale = 255 / (high - low) if high > low else 0.0
    else:
        low = 0.0
        whole = np.issubdtype(values.dtype, np.integer)
        scale = 255.0 if high <= 1 and not whole else 1.0 if high <= 255 else 1 / 257
    return np.rint((values.astype(np.float64) - low) * scale).astype(np.uint8)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; read after `load`, because Pillow turns a TIFF itself and then says 1."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # damaged EXIF beside good pixels: the image is used as it is stored
        return 1


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _several_frames(image: Image.Image) -> bool:
    """Animations and pages; the second image in a phone's MPO is a preview, not a frame."""
    try:
        return image.format not in ("JPEG", "MPO", "HEIF") and bool(getattr(image, "is_animated", False))
    except Exception:  # a later frame is damaged: the first one, which is used, is not
        return True


# ---- the square ----------------------------------------------------------------------------------------------------


def _keras_side(side: int, size: int) -> int:
    """`side * size / size` as Keras computes it: in float32, which is not exact above 2**24, then truncated."""
    return int(np.float32(side * size) / np.float32(size))


def _resample(channel: Pixels, top: int, left: int, size: int) -> NDArray[np.float32]:
    """Triangle filter of uint8 (height, width) with black bars of `top` and `left` pixels to float32 (size, size).

    Pillow's two passes, the first in bands of rows: the float32 copy and the bars never exist at full size.
    """
    height, width = channel.shape
    narrow = np.zeros((height + 2 * top, size), np.float32)
    rows = max(1, _BAND // (width + 2 * left))
    for start in range(0, height, rows):
        band = np.pad(channel[start : start + rows], ((0, 0), (left, left)))
        strip = Image.fromarray(band).convert("F").resize((size, band.shape[0]), Image.Resampling.BILINEAR)
        narrow[top + start : top + start + band.shape[0]] = np.asarray(strip)
    return np.asarray(Image.fromarray(narrow).resize((size, size), Image.Resampling.BILINEAR))
