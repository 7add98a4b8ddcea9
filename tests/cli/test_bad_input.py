"""Photographs that are not as they should be, a row for each case, as a user meets them: `tlstudy init photos`.

Message, exit code, and that nothing on disk was touched. The cases that only a search or a resume can meet stand in
`ELSEWHERE`, by the names of their tests.
"""

from __future__ import annotations

import ast
import io
import os
import socket
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import image_files
import numpy as np
import pytest
from cli_programs import Tlstudy, as_anybody, process
from PIL import Image

TESTS = Path(__file__).parents[1]
Build = Callable[[Path], None]
CAT = "train/cat"


def good(root: Path) -> None:
    image_files.folder(root, train=5, val=5)


def beside_good(write: Callable[[Path], object]) -> Build:
    """Good photographs, and `write` gets the folder of one class."""

    def build(root: Path) -> None:
        good(root)
        write(root / CAT)

    return build


def bytes_of(format: str, mode: str = "RGB", size: tuple[int, int] = (48, 40), seed: int = 77) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image_files.pixels(seed, *size)).convert(mode).save(buffer, format)
    return buffer.getvalue()


def flipped(folder: Path) -> None:
    data = bytearray(bytes_of("PNG"))
    data[len(data) // 2] ^= 1
    (folder / "x.png").write_bytes(data)


def animation(folder: Path) -> None:
    frames = [Image.fromarray(image_files.pixels(seed)) for seed in (800, 801)]
    frames[0].save(folder / "x.gif", save_all=True, append_images=frames[1:])


def transparent(folder: Path) -> None:
    pixels = np.dstack([image_files.pixels(802), np.zeros((40, 48), np.uint8)])
    Image.fromarray(pixels).save(folder / "x.png")


def sixteen_bits(folder: Path) -> None:
    Image.fromarray(image_files.pixels(803)[:, :, 0].astype(np.uint16) * 257).save(folder / "x.png")


def turned(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(image_files.pixels(804)).save(folder / "x.jpg", exif=exif)


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "x.jpg")


def plug(folder: Path) -> None:
    here = os.getcwd()
    os.chdir(folder)  # a socket's path may not be long
    try:
        socket.socket(socket.AF_UNIX).bind("x.jpg")
    finally:
        os.chdir(here)


def zip_behind(folder: Path) -> None:
    buffer = io.BytesIO(bytes_of("JPEG"))
    buffer.seek(0, io.SEEK_END)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("evil.py", "print('hello')")
    (folder / "x.jpg").write_bytes(buffer.getvalue())


def grey_class(root: Path) -> None:
    good(root)
    for path in (root).glob("*/cat/*"):
        Image.open(path).convert("L").save(path)


def a_file(root: Path) -> None:
    root.write_text("x")


def empty_class(root: Path) -> None:
    good(root)
    for split in ("train", "val"):
        (root / split / "fox").mkdir()


def two_forms(root: Path) -> None:
    image_files.folder(root, classes=("caf\u00e9", "cafe\u0301", "dog"))


def look_alikes(root: Path) -> None:
    good(root)
    image_files.image_file(root / CAT / "x.jpg", 900, 160, 120, quality=90)
    image_files.image_file(root / "val" / "cat" / "x.png", 900, 160, 120)


def many_bad(root: Path) -> None:
    good(root)
    for number in range(4):
        (root / CAT / f"bad{number}.jpg").write_bytes(b"")


def imbalanced(root: Path) -> None:
    good(root)
    for number in range(40):
        image_files.image_file(root / "train" / "dog" / f"more{number}.jpg", 1000 + number)


def copied(root: Path, *pairs: tuple[str, str]) -> None:
    good(root)
    for source, target in pairs:
        (root / target).write_bytes((root / source).read_bytes())


def renamed(root: Path, old: str, new: str) -> None:
    good(root)
    (root / old).rename(root / new)


def a_zip(content: tuple[str, ...] = ()) -> Build:
    """The file `photos` is a zip of files of these names."""

    def build(root: Path) -> None:
        with zipfile.ZipFile(root, "w") as archive:
            for number, name in enumerate(content):
                archive.writestr(name, bytes_of("JPEG", seed=number))

    return build


REFUSED: dict[str, tuple[Build, str]] = {
    "1 missing": (lambda root: None, "no such folder or .zip"),
    "1 empty": (lambda root: root.mkdir(), "the folder is empty. Expected train/ and val/"),
    "1 a file": (a_file, "photos: a file that is not a zip; expected a folder or a .zip"),
    "1 an empty zip": (a_zip(), "/photos: the folder is empty. Expected train/ and val/"),
    "3 a zip of one class": (a_zip(("cat/1.jpg", "cat/2.jpg")), "/photos: found one class, cat"),
    "2 empty class": (empty_class, "train/fox: a class folder without photographs"),
    "3 one class": (lambda root: image_files.folder(root, classes=("cat",)) and None, "found one class, cat"),
    "4 one photograph": (lambda root: image_files.folder(root, train=1) and None, "expected at least 2"),
    "6 too many left out": (many_bad, "4 of 24 files cannot be used: train/cat/bad0.jpg: empty file"),
    "22 one name in two normal forms": (two_forms, "differ by Unicode normalisation only"),
    "25 Cat and cat": (
        lambda root: image_files.folder(root, classes=("Cat", "cat", "dog")) and None,
        "differ by upper and lower case only",
    ),
    "30 nested": (beside_good(lambda folder: (folder / "more").mkdir()), "found the folder more inside a class"),
    "31 beside the classes": (
        lambda root: copied(root, (f"{CAT}/00.jpg", "train/loose.jpg")),
        "1 photograph beside the class folders: loose.jpg",
    ),
    "32 in two splits": (
        lambda root: copied(root, (f"{CAT}/00.jpg", "val/cat/again.jpg")),
        "one photograph stands in two splits: train/cat/00.jpg = val/cat/again.jpg",
    ),
    "33 in two classes": (
        lambda root: copied(root, (f"{CAT}/00.jpg", "train/dog/again.jpg")),
        "in two classes: train/cat/00.jpg = train/dog/again.jpg (cat, dog)",
    ),
    "35 a class in one split": (
        lambda root: renamed(root, "val/dog", "val/wolf"),
        "only in train/: dog; only in val/: wolf",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_and_nothing_is_touched(tlstudy: Tlstudy, tmp_path: Path, case: str) -> None:
    build, message = REFUSED[case]
    build(tmp_path / "photos")
    before = contents(tmp_path)
    for command in (["init", "photos"], ["search", "--data", "photos", "--weights", "random"]):
        done = tlstudy(*command)
        assert done.code == 2
        assert message in done.text
        assert contents(tmp_path) == before


LEFT_OUT: dict[str, tuple[Callable[[Path], object], str]] = {
    "6 HTML": (lambda f: (f / "x.jpg").write_text("<html><body>404</body></html>"), "x.jpg (not an image (HTML"),
    "6 PDF": (lambda f: (f / "x.jpg").write_bytes(b"%PDF-1.7\n" + b"x" * 99), "x.jpg (not an image (PDF"),
    "6 text": (lambda f: (f / "x.jpg").write_text("dear diary"), "x.jpg (not an image (text))"),
    "7 truncated": (lambda f: (f / "x.jpg").write_bytes(bytes_of("JPEG")[:-300]), "x.jpg (truncated JPEG)"),
    "8 a flipped bit": (flipped, "x.png (damaged PNG"),
    "9 zero bytes": (lambda f: (f / "x.jpg").write_bytes(b""), "x.jpg (empty file)"),
    "15 HEIC": (
        lambda f: (f / "x.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 99),
        "x.jpg (HEIC: install pillow-heif",
    ),
    "18 a bomb": (
        lambda f: Image.new("1", (12_000, 12_000)).save(f / "x.png"),
        "x.png (too large (12000x12000, 144 megapixels; at most 80))",
    ),
    "19 one pixel": (lambda f: Image.new("RGB", (1, 1)).save(f / "x.png"), "x.png (too small (1x1"),
    "19 a line": (lambda f: Image.new("RGB", (2000, 20)).save(f / "x.png"), "x.png (too narrow (2000x20"),
    "26 a link in a circle": (lambda f: (f / "x.jpg").symlink_to("x.jpg"), "x.jpg (link in a circle"),
    "26 a link outside": (lambda f: (f / "x.jpg").symlink_to("/etc/hosts"), "x.jpg (link that leaves the data folder"),
    "27 a pipe": (pipe, "x.jpg (pipe, not a regular file)"),
    "27 a socket": (plug, "x.jpg (socket, not a regular file)"),
    "23 markup in a name": (
        lambda f: (f / "[bold]\n\x1b[2J<script>.jpg").write_bytes(b""),
        r"[bold]\n\x1b[2J<script>.jpg (empty file)",
    ),
    "24 a name that is not UTF-8": (
        lambda f: open(os.fsencode(f) + b"/\xff\xfe.jpg", "wb").close(),
        r"\udcff\udcfe.jpg (empty file)",
    ),
}


@pytest.mark.parametrize("case", LEFT_OUT)
def test_it_is_left_out_by_name_with_the_reason(tlstudy: Tlstudy, tmp_path: Path, case: str) -> None:
    write, message = LEFT_OUT[case]
    beside_good(write)(tmp_path / "photos")
    before = contents(tmp_path / "photos")
    done = tlstudy("init", "photos")
    assert done.code == 0
    assert "Found 20 photographs in 2 classes." in done.text
    assert message in done.text
    assert "Warning: 1 file left out: 1 in train/cat." in done.text
    assert "\x1b" not in done.out + done.err
    assert contents(tmp_path / "photos") == before
    assert tlstudy("init", "photos", "--strict", "--name", "strict").code == 2


READ: dict[str, tuple[Build, int, str]] = {
    "4 few": (lambda root: image_files.folder(root, train=3, val=2) and None, 10, "val holds few photographs"),
    "5 GIF named .jpg": (
        beside_good(lambda f: (f / "x.jpg").write_bytes(bytes_of("GIF"))),
        21,
        "Suffixes that do not fit the content, read by content: train/cat/x.jpg is GIF",
    ),
    "10 CMYK": (beside_good(lambda f: (f / "x.jpg").write_bytes(bytes_of("JPEG", "CMYK"))), 21, ""),
    "11 16 bits": (beside_good(sixteen_bits), 21, ""),
    "12 transparent": (beside_good(transparent), 21, "Images of a single colour: train/cat/x.png"),
    "13 grey": (grey_class, 20, "All photographs of cat are grey and no others"),
    "14 turned": (beside_good(turned), 21, ""),
    "16 WebP": (beside_good(lambda f: (f / "x.webp").write_bytes(bytes_of("WEBP"))), 21, ""),
    "17 animated": (beside_good(animation), 21, "Several frames or pages, the first is used: train/cat/x.gif"),
    "20 uniform": (
        beside_good(lambda f: Image.new("RGB", (40, 40), "red").save(f / "x.png")),
        21,
        "Images of a single colour: train/cat/x.png",
    ),
    "21 a zip behind": (beside_good(zip_behind), 21, ""),
    "29 system files": (
        beside_good(lambda f: [(f / n).write_bytes(b"x") for n in (".DS_Store", "Thumbs.db", "._x.jpg")]),
        20,
        "not counted: 3 hidden or system files",
    ),
    "34 alike": (look_alikes, 22, "look the same: train/cat/x.jpg ~ val/cat/x.png"),
    "36 imbalanced": (imbalanced, 60, "dog 45"),
}


@pytest.mark.parametrize("case", READ)
def test_it_is_read_and_what_is_odd_is_said(tlstudy: Tlstudy, tmp_path: Path, case: str) -> None:
    build, number, message = READ[case]
    build(tmp_path / "photos")
    before = contents(tmp_path / "photos")
    done = tlstudy("init", "photos")
    assert done.code == 0
    assert f"Found {number} photographs in 2 classes." in done.text
    assert message in done.text
    assert contents(tmp_path / "photos") == before


def test_28_a_file_that_may_not_be_read_is_left_out_by_name(tmp_path: Path) -> None:
    good(tmp_path / "photos")
    (tmp_path / "photos" / CAT / "00.jpg").chmod(0)
    done = process("init", "photos", cwd=tmp_path, before=as_anybody)
    assert done.code == 0
    assert "Found 19 photographs in 2 classes." in done.text
    assert "00.jpg (cannot be read (Permission denied))" in done.text


def test_28_a_folder_that_may_not_be_read_is_no_empty_one(tmp_path: Path) -> None:
    good(tmp_path / "photos")
    (tmp_path / "photos" / CAT).chmod(0)
    done = process("init", "photos", cwd=tmp_path, before=as_anybody)
    (tmp_path / "photos" / CAT).chmod(0o755)
    assert done.code == 2
    assert "the folder cannot be read (Permission denied). Check its permissions." in done.text
    assert not (tmp_path / "studies").exists()


ELSEWHERE = {
    37: "test_a_file_that_changes_meanwhile_is_noticed",
    38: "test_another_question_is_refused_with_each_difference",
    39: "test_one_process_holds_a_study_and_the_other_is_told_who",
    40: "test_what_is_disturbed_goes_on_to_the_same_result",
    41: "test_a_folder_that_cannot_be_made_is_an_error_of_use",
    42: "test_a_moved_study_goes_on",
    43: "test_a_damaged_checkpoint_is_trained_again_to_the_same_numbers",
    44: "test_results_that_cannot_be_used_are_named_and_kept",
    45: "test_a_loss_that_is_not_finite_fails_with_the_reason",
    46: "test_it_is_trained_to_the_same_numbers_but_for_rounding",
    47: "test_a_trial_that_crashes_its_process_fails_at_the_third_time_and_a_later_search_tries_it_again",
    48: "test_a_trial_that_crashes_its_process_fails_at_the_third_time_and_a_later_search_tries_it_again",
    49: "test_another_networks_weights_are_refused",
    50: "test_without_a_network_imagenet_says_how_to_get_the_file",
    51: "test_no_duration_and_no_order_comes_from_the_clock",
    52: "test_a_search_that_is_interrupted_and_ended_goes_on_to_the_same_result",
    53: "test_when_every_configuration_fails_the_search_says_why",
    54: "test_wrong_use_is_one_message",
    55: "test_an_oracle_server_in_the_environment_is_ignored_and_said",
}


def test_every_row_of_the_catalogue_has_its_test() -> None:
    names = set(function_names())
    assert {name for name in ELSEWHERE.values() if name not in names} == set()
    rows = {int(case.split()[0]) for cases in (REFUSED, LEFT_OUT, READ) for case in cases} | {28} | set(ELSEWHERE)
    assert rows == set(range(1, 56))


def function_names() -> Iterator[str]:
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                yield node.name


def contents(root: Path) -> dict[str, bytes | None]:
    return {
        str(p.relative_to(root)): p.read_bytes() if p.is_file() and not p.is_symlink() else None
        for p in sorted(root.rglob("*"))
    }
