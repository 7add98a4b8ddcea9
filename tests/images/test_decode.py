"""Real files of every kind to RGB pixels, and those to the square that Keras would make."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import image_file, pixels
from PIL import Image, ImageOps

from tuner.images import decode
from tuner.images.decode import Unreadable, load_photograph, to_square


def reason(path: Path) -> str:
    with pytest.raises(Unreadable) as caught:
        load_photograph(path)
    return caught.value.reason


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff"])
def test_lossless_formats_come_back_exactly(tmp_path: Path, suffix: str) -> None:
    loaded = load_photograph(image_file(tmp_path / f"a.{suffix}", 1))
    assert loaded.dtype == np.uint8
    np.testing.assert_array_equal(loaded, pixels(1))


@pytest.mark.parametrize("suffix", ["jpg", "webp", "avif"])
def test_lossy_formats_come_back_nearly(tmp_path: Path, suffix: str) -> None:
    loaded = load_photograph(image_file(tmp_path / f"a.{suffix}", 1, quality=95)).astype(int)
    assert loaded.shape == (40, 48, 3)
    assert np.abs(loaded - pixels(1)).mean() < 6


def test_content_decides_not_the_suffix(tmp_path: Path) -> None:
    loaded = load_photograph(image_file(tmp_path / "a.jpg", 1, format="PNG"))
    np.testing.assert_array_equal(loaded, pixels(1))


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.fromarray(pixels(seed)).quantize() for seed in (1, 2, 3)]
    path = saved(tmp_path / "a.jpg", frames[0], format="GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(load_photograph(path), np.asarray(frames[0].convert("RGB")))
    with decode.open_file(path) as stream, decode.open_header(stream) as image:
        assert decode.decode(image).frames


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    values = np.linspace(0, 65535, 48 * 40).reshape(40, 48).astype(np.uint16)
    loaded = load_photograph(saved(tmp_path / f"a.{suffix}", Image.fromarray(values)))
    np.testing.assert_array_equal(loaded, np.rint(values / 257).astype(np.uint8)[:, :, None].repeat(3, 2))


@pytest.mark.parametrize(("low", "high", "white"), [(0, 1, 1), (0, 255, 255), (0, 65535, 65535)])
def test_float_tiff_by_its_convention(tmp_path: Path, low: float, high: float, white: float) -> None:
    values = np.linspace(low, high, 48 * 40, dtype=np.float32).reshape(40, 48)
    loaded = load_photograph(saved(tmp_path / "a.tiff", Image.fromarray(values)))
    assert np.abs(loaded[:, :, 0] - values / white * 255).max() <= 1


def test_float_tiff_in_its_own_units_spans_its_range(tmp_path: Path) -> None:
    values = np.linspace(-7, 3, 48 * 40, dtype=np.float32).reshape(40, 48)
    loaded = load_photograph(saved(tmp_path / "a.tiff", Image.fromarray(values)))
    assert (loaded.min(), loaded.max()) == (0, 255)


def test_float_tiff_with_nan_is_refused(tmp_path: Path) -> None:
    values = np.full((40, 48), np.nan, np.float32)
    assert "finite" in reason(saved(tmp_path / "a.tiff", Image.fromarray(values)))


def test_cmyk(tmp_path: Path) -> None:
    image = Image.fromarray(pixels(1)).convert("CMYK")
    loaded = load_photograph(saved(tmp_path / "a.jpg", image, quality=95)).astype(int)
    assert np.abs(loaded - pixels(1)).mean() < 8


@pytest.mark.parametrize("mode", ["1", "L"])
def test_grey_and_bilevel_are_replicated(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(pixels(1)).convert(mode)
    loaded = load_photograph(saved(tmp_path / "a.png", image))
    np.testing.assert_array_equal(loaded, np.asarray(image.convert("L"))[:, :, None].repeat(3, 2))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_hidden_colours_are_white(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(pixels(1)).convert(mode)
    image.putalpha(Image.fromarray(np.repeat(np.array([[0] * 24 + [255] * 24], np.uint8), 40, 0)))
    loaded = load_photograph(saved(tmp_path / "a.png", image))
    assert (loaded[:, :24] == 255).all()
    np.testing.assert_array_equal(loaded[:, 24:], np.asarray(image.convert("RGB"))[:, 24:])


def test_palette_with_transparency_lies_on_white(tmp_path: Path) -> None:
    image = Image.new("P", (48, 40), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(1, (0, 0, 24, 40))
    loaded = load_photograph(saved(tmp_path / "a.png", image, transparency=0))
    assert (loaded[:, 24:] == 255).all()
    assert (loaded[:, :24] == (0, 0, 255)).all()


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_that_of_a_viewer(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = image_file(tmp_path / f"a.{suffix}", 1, exif=exif)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert expected.shape == ((48, 40, 3) if orientation > 4 else (40, 48, 3))
    np.testing.assert_array_equal(load_photograph(path), expected)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "bmp", "tiff"])
def test_truncated_files_are_refused_wherever_they_are_cut(tmp_path: Path, suffix: str) -> None:
    whole = image_file(tmp_path / f"whole.{suffix}", 1).read_bytes()
    for part in (0.3, 0.6, 0.9):
        cut = tmp_path / f"cut.{suffix}"
        cut.write_bytes(whole[: int(len(whole) * part)])
        assert any(word in reason(cut) for word in ("truncated", "damaged"))


def test_truncated_jpeg_is_called_so(tmp_path: Path) -> None:
    path = image_file(tmp_path / "a.jpg", 1)
    path.write_bytes(path.read_bytes()[:-200])
    assert reason(path) == "truncated JPEG"


def test_flipped_bit_in_a_png(tmp_path: Path) -> None:
    path = image_file(tmp_path / "a.png", 1)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(bytes(content))
    assert reason(path).startswith("damaged PNG")


@settings(max_examples=60, deadline=None)
@given(
    at=st.integers(0, 10_000),
    value=st.integers(0, 255),
    suffix=st.sampled_from(["jpg", "png", "gif", "webp", "bmp", "tiff"]),
)
def test_any_damage_is_pixels_or_unreadable(
    tmp_path_factory: pytest.TempPathFactory, at: int, value: int, suffix: str
) -> None:
    stream = io.BytesIO()
    Image.fromarray(pixels(1)).save(stream, {"jpg": "JPEG", "tiff": "TIFF"}.get(suffix, suffix.upper()))
    content = bytearray(stream.getvalue())
    content[at % min(len(content), 400)] = value
    path = tmp_path_factory.mktemp("damage") / f"a.{suffix}"
    path.write_bytes(bytes(content))
    try:
        shape = load_photograph(path).shape
    except Unreadable as error:
        shape = (16, 16, 3)
        message = error.reason
    else:
        message = "fine"
    assert shape[2] == 3
    assert message
    assert len(message) < 140


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "empty file"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "not an image (HTML text)"),
        (b"%PDF-1.7 ...", "not an image (PDF)"),
        ("Größe: 3 Äpfel\n".encode(), "not an image (text)"),
        (("é" * 5000).encode()[1:], "not an image (begins with a9"),
        (("x" + "é" * 5000).encode(), "not an image (text)"),
        (b"<?xml version='1.0'?><svg/>", "not an image (SVG drawing)"),
        (bytes(range(64)), "not an image (begins with 00 01"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64), "HEIC"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(64), "not an image (video)"),
        (b"\xff\xd8\xff\xe0 and then nothing", "truncated JPEG"),
        (b"BMW is a car", "not an image (text)"),
    ],
)
def test_what_is_no_image_says_what_it_is(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    assert reason(path).startswith(expected)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("size", "expected"),
    [((1, 1), "too small"), ((15, 400), "too small"), ((20000, 20), "too narrow"), ((12000, 12000), "too large")],
)
def test_unfit_sizes_are_refused_before_decoding(tmp_path: Path, size: tuple[int, int], expected: str) -> None:
    path = tmp_path / "a.png"
    Image.new("1", size).save(path)
    assert reason(path).startswith(expected)


def test_a_pipe_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    assert reason(tmp_path / "a.jpg") == "not a regular file"


def test_missing_file(tmp_path: Path) -> None:
    assert reason(tmp_path / "a.jpg").startswith("cannot be read")


# ---- the square ----------------------------------------------------------------------------------------------------

SHAPES = [(50, 77), (77, 50), (123, 61), (61, 124), (64, 64), (20, 301), (301, 20), (17, 16), (200, 199), (480, 640)]


@pytest.mark.parametrize("mode", ["crop", "pad", "squash"])
@pytest.mark.parametrize("size", [32, 57])
def test_square_equals_keras(mode: str, size: int) -> None:
    import keras

    layer = keras.layers.Resizing(
        size, size, interpolation="bilinear", antialias=True, crop_to_aspect_ratio=mode == "crop",
        pad_to_aspect_ratio=mode == "pad", fill_value=0, data_format="channels_last",
    )  # fmt: skip
    wrong = values = 0
    for seed, (height, width) in enumerate(SHAPES):
        image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        expected = keras.ops.convert_to_numpy(layer(image.astype("float32")))
        difference = np.abs(np.clip(np.rint(expected), 0, 255) - to_square(image, size, mode))
        assert difference.max() <= 1
        wrong, values = wrong + int((difference > 0).sum()), values + difference.size
    assert wrong <= 0.002 * values


@pytest.mark.parametrize("mode", ["crop", "pad", "squash"])
def test_square_does_not_depend_on_the_bands(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    image = pixels(3, 90, 64)
    whole = to_square(image, 32, mode)
    monkeypatch.setattr(decode, "_BAND", 500)
    np.testing.assert_array_equal(to_square(image, 32, mode), whole)


def test_square_of_the_same_size_is_the_image() -> None:
    image = pixels(3, 40, 40)
    for mode in ("crop", "pad", "squash"):
        np.testing.assert_array_equal(to_square(image, 40, mode), image)


def test_pad_has_black_bars_on_both_sides() -> None:
    square = to_square(np.full((32, 64, 3), 200, np.uint8), 64, "pad")
    assert not square[:15].any()
    assert not square[-15:].any()
    assert (square[17:-17] == 200).all()
