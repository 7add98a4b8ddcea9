"""`tlstudy predict` on a model small enough to make here: an ONNX file that answers by the mean colour."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import stat
import subprocess
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import image_files
import numpy as np
import pytest
from cli_programs import Tlstudy, as_anybody, command, environment, process, start
from PIL import Image

from tuner.export.formats import Contents

pytest.importorskip("onnxruntime", reason="not installed: onnxruntime")
onnx = pytest.importorskip("onnx", reason="not installed: onnx")

HOSTILE = ("=1+1", "\x1b[31mred", "caf\udce9")


def tiny_model(
    path: Path, classes: tuple[str, ...] = ("red", "green", "blue"), contents: bool = True, last: Sequence[Any] = ()
) -> Path:
    """(b, 16, 16, 3) to the softmax of the three mean colours over 10: the colour a photograph has most of. `last`:
    nodes that make `probabilities` of `scaled` in some other way.
    """
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("ReduceMean", ["square"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Div", ["mean", "ten"], ["scaled"]),
        *(last or [helper.make_node("Softmax", ["scaled"], ["probabilities"], axis=-1)]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("square", kind, ["b", 16, 16, 3])],
        [helper.make_tensor_value_info("probabilities", kind, ["b", 3])],
        [helper.make_tensor("ten", kind, [], [10.0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    if contents:
        helper.set_model_props(model, {"tlstudy": Contents(classes, 16, "crop").to_json()})
    path.write_bytes(model.SerializeToString())
    return path


def coloured(path: Path, colour: tuple[int, int, int], side: int = 20) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), colour).save(path)
    return path


RED, GREEN, BLUE = (200, 30, 30), (30, 200, 30), (30, 30, 200)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """tiny.onnx, red.png, and photos/ with two more, a hidden file and a folder."""
    tiny_model(tmp_path / "tiny.onnx")
    coloured(tmp_path / "red.png", RED)
    coloured(tmp_path / "photos" / "b.png", GREEN)
    coloured(tmp_path / "photos" / "deep" / "a.png", BLUE)
    (tmp_path / "photos" / ".hidden").write_text("nothing")
    return tmp_path


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_table_says_the_class_and_how_sure(tlstudy: Tlstudy, here: Path) -> None:
    done = tlstudy("predict", "tiny.onnx", "red.png", "photos")
    assert (done.code, done.err) == (0, "")
    lines = [line.split() for line in done.out.splitlines() if ".png" in line]
    assert [line[:2] for line in lines] == [
        ["red.png", "red"],
        ["photos/b.png", "green"],
        ["photos/deep/a.png", "blue"],
    ]
    assert all(line[2] == "1.000" for line in lines)
    assert "3 photographs: 1 red, 1 green, 1 blue." in done.out


def test_json_and_csv_hold_the_same_probabilities(tlstudy: Tlstudy, here: Path) -> None:
    image_files.image_file(here / "mixed.jpg", 5)
    found = json.loads(tlstudy("predict", "tiny.onnx", "mixed.jpg", "red.png", "--format", "json").out)
    assert found["classes"] == ["red", "green", "blue"] and found["format"] == "onnx" and not found["unreadable"]
    listed = rows(tlstudy("predict", "tiny.onnx", "mixed.jpg", "red.png", "--format", "csv").out)
    for row, photograph in zip(listed, found["photographs"], strict=True):
        chances = {name: float(row[f"p_{name}"]) for name in found["classes"]}
        assert photograph["probabilities"] == chances and sum(chances.values()) == pytest.approx(1, abs=1e-5)
        assert row["path"] == photograph["path"] and row["class"] == photograph["class"] == max(
            chances, key=chances.get
        )
        assert float(row["probability"]) == photograph["probability"] == max(chances.values())


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_what_cannot_be_read_is_named_and_the_rest_is_done(tlstudy: Tlstudy, here: Path, form: str) -> None:
    (here / "notes.txt").write_text("no photograph")
    (here / "empty.jpg").write_bytes(b"")
    os.mkfifo(here / "pipe.jpg")
    asked = ["notes.txt", "red.png", "empty.jpg", "nowhere.jpg", "pipe.jpg", "photos/b.png"]
    done = tlstudy("predict", "tiny.onnx", *asked, "--format", form)
    assert done.code == 1
    assert done.err.splitlines() == [
        "notes.txt: not an image (text)",
        "empty.jpg: empty file",
        "nowhere.jpg: cannot be read (No such file or directory)",
        "pipe.jpg: not a regular file",
        "4 of 6 files could not be read.",
    ]
    if form == "json":
        found = json.loads(done.out)
        assert [p["path"] for p in found["photographs"]] == ["red.png", "photos/b.png"]
        assert [p["path"] for p in found["unreadable"]] == ["notes.txt", "empty.jpg", "nowhere.jpg", "pipe.jpg"]
    elif form == "csv":
        assert [row["path"] for row in rows(done.out)] == ["red.png", "photos/b.png"]
    else:
        assert "2 photographs: 1 red, 1 green." in done.out


@pytest.mark.parametrize("between", [b"\n", b"\0"])
def test_a_list_on_standard_input(here: Path, between: bytes) -> None:
    """Each mention is one answer, in order; bytes that are no UTF-8 are a name like another."""
    odd = os.fsdecode(b"caf\xe9.png")
    coloured(here / odd, GREEN)
    names = [b"red.png", b"caf\xe9.png", b"red.png", b"photos"]
    done = subprocess.run(
        command("predict", "tiny.onnx", "-", "photos/b.png", "--format", "json"),
        cwd=here,
        env=environment(),
        input=between.join(names) + between,
        capture_output=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    found = [(p["path"], p["class"]) for p in json.loads(done.stdout)["photographs"]]
    assert found == [
        ("red.png", "red"),
        (odd, "green"),
        ("red.png", "red"),
        ("photos/b.png", "green"),
        ("photos/deep/a.png", "blue"),
        ("photos/b.png", "green"),
    ]


def test_photographs_are_turned_upright_and_cropped_as_in_a_study(tlstudy: Tlstudy, here: Path) -> None:
    """Red to the left and right of a blue square: only the square counts. Lying on its side by EXIF, the same."""
    wide = np.zeros((40, 120, 3), np.uint8)
    wide[:] = RED
    wide[:, 40:80] = BLUE
    Image.fromarray(wide).save(here / "wide.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(wide).save(here / "turned.png", exif=exif)
    found = json.loads(tlstudy("predict", "tiny.onnx", "wide.png", "turned.png", "--format", "json").out)
    assert [p["class"] for p in found["photographs"]] == ["blue", "blue"]


def test_more_files_than_a_batch_holds(tlstudy: Tlstudy, here: Path) -> None:
    asked = ["red.png", "photos/b.png", "nowhere.png"] * 25
    done = tlstudy("predict", "tiny.onnx", *asked, "--format", "csv")
    assert done.code == 1
    assert [row["class"] for row in rows(done.out)] == ["red", "green"] * 25
    assert done.err.splitlines()[-1] == "25 of 75 files could not be read."


def test_no_name_steers_the_terminal_or_a_spreadsheet(tlstudy: Tlstudy, here: Path) -> None:
    tiny_model(here / "hostile.onnx", HOSTILE)
    coloured(here / "=cmd()\x1b]0;mine\x07.png", RED)
    (here / "\x1b[2J.png").write_text("")
    for form in ("table", "csv"):
        done = tlstudy("predict", "hostile.onnx", "=cmd()\x1b]0;mine\x07.png", "\x1b[2J.png", "--format", form)
        assert done.code == 1
        assert not set(done.err) & {"\x1b", "\x07"} and r"\x1b[2J.png: empty file" in done.err
        assert not set(done.out) & {"\x1b", "\x07"} and r"\x1b]0;mine\x07.png" in done.out
        if form == "csv":
            row = rows(done.out)[0]
            assert row["path"].startswith("'=cmd()") and row["class"] == "'=1+1"


def test_a_bar_where_somebody_looks(here: Path) -> None:
    """What rich takes for a terminal gets a bar on standard error, and nothing but data on standard output."""
    done = process("predict", "tiny.onnx", "red.png", "--format", "json", cwd=here, FORCE_COLOR="1")
    assert done.code == 0 and "Predicting" in done.err
    assert [p["class"] for p in json.loads(done.out)["photographs"]] == ["red"]


# ---- models that are none ------------------------------------------------------------------------------------------


def test_what_is_no_model_of_ours_is_one_message(tlstudy: Tlstudy, here: Path) -> None:
    tiny_model(here / "anybody.onnx", contents=False)
    (here / "broken.onnx").write_bytes(b"not a model")
    (here / "broken.tflite").write_bytes(b"\0\0\0\0TFL3" + bytes(100))
    with zipfile.ZipFile(here / "photos.zip", "w") as file:
        file.write(here / "red.png")
    said = {
        "anybody.onnx": "was not exported by tlstudy: it has no metadata entry tlstudy",
        "broken.onnx": "cannot be read as a onnx model",
        "broken.tflite": "was not exported by tlstudy: it carries no tlstudy.json",
        "photos.zip": "was not exported by tlstudy: it is a zip whose name does not end in .keras",
        "red.png": "is no model that tlstudy exports",
        "photos": "is a folder without saved_model.pb in it",
        "nowhere.onnx": "cannot be read (No such file or directory)",
    }
    for name, message in said.items():
        done = tlstudy("predict", name, "red.png")
        assert done.code == 2, name
        assert f"{name}: {message}" in done.text
        assert done.out == ""


def test_anybodys_keras_model_is_refused(tlstudy: Tlstudy, here: Path) -> None:
    import keras

    from tuner.errors import UsageError
    from tuner.export.reading import open_model

    for number, layers in enumerate(([keras.layers.Dense(2)], [keras.layers.Dense(2, name="classes")])):
        model = keras.Sequential([keras.Input((3,)), *layers])
        model.save(here / f"{number}.keras")
        with pytest.raises(UsageError, match="no layer called classes that holds the class names"):
            open_model(here / f"{number}.keras")
    done = tlstudy("predict", "1.keras", "red.png")
    assert done.code == 2
    assert "was not exported by tlstudy: it has no layer called classes that holds the class names" in done.text


def test_a_model_whose_class_names_do_not_fit_is_refused(tlstudy: Tlstudy, here: Path) -> None:
    tiny_model(here / "two.onnx", ("red", "green"))
    done = tlstudy("predict", "two.onnx", "red.png")
    assert done.code == 2
    assert "gave numbers of shape (1, 3), expected finite probabilities of shape (1, 2)" in done.text


def test_a_saved_model_is_run_only_after_a_word(tlstudy: Tlstudy, here: Path) -> None:
    (here / "saved").mkdir()
    (here / "saved" / "saved_model.pb").write_bytes(b"")
    done = tlstudy("predict", "saved", "red.png")
    assert done.code == 2
    assert "a SavedModel is a TensorFlow program, which can read and write your files" in done.text
    assert "assets.extra/tlstudy.json with the class names is not in it" in done.text


def test_nothing_to_predict_is_wrong_use(tlstudy: Tlstudy, here: Path) -> None:
    (here / "empty").mkdir()
    done = tlstudy("predict", "tiny.onnx", "empty")
    assert done.code == 2 and "empty: no files there" in done.text
    assert tlstudy("predict", "tiny.onnx").code == 2


def test_a_folder_that_cannot_be_entered_is_named(here: Path) -> None:
    (here / "photos" / "deep").chmod(0)
    try:
        done = process("predict", "tiny.onnx", "photos", cwd=here, before=as_anybody)
    finally:
        (here / "photos" / "deep").chmod(stat.S_IRWXU)
    assert done.code == 1 and "photos/deep: cannot be read (Permission denied)" in done.err


def test_an_onnx_model_is_read_without_tensorflow(here: Path) -> None:
    """A second, not ten: what reads the file is imported and nothing else."""
    code = "import sys; from tuner.cli import main\ntry: main()\nexcept SystemExit: pass\n"
    code += "print([m for m in ('keras', 'tensorflow', 'pandas', 'matplotlib') if m in sys.modules])"
    arguments = [command()[0], "-c", code, "predict", "tiny.onnx", "red.png", "--format", "json"]
    done = subprocess.run(arguments, cwd=here, env=environment(), capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


# ---- models that mean harm -----------------------------------------------------------------------------------------


def endless() -> list[Any]:
    """A Loop whose condition stays true."""
    helper, kind = onnx.helper, onnx.TensorProto
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Identity", ["held"], ["kept"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", kind.INT64, []),
            helper.make_tensor_value_info("go", kind.BOOL, []),
            helper.make_tensor_value_info("held", kind.FLOAT, None),
        ],
        [helper.make_tensor_value_info("on", kind.BOOL, []), helper.make_tensor_value_info("kept", kind.FLOAT, None)],
    )
    yes = helper.make_tensor("yes", kind.BOOL, [], [True])
    return [
        helper.make_node("Constant", [], ["true"], value=yes),
        helper.make_node("Loop", ["", "true", "scaled"], ["probabilities"], body=body),
    ]


def greedy(gigabytes: int) -> list[Any]:
    """Needs so much memory, and would then be right."""
    helper, kind = onnx.helper, onnx.TensorProto
    side = helper.make_tensor("side", kind.INT64, [2], [gigabytes << 18, 1 << 10])
    one = helper.make_tensor("one", kind.FLOAT, [1], [1.0])
    shape = helper.make_node("Mul", ["number", "sides"], ["shape"])  # of the image, so that nothing folds it
    return [
        helper.make_node("ReduceMax", ["scaled"], ["most"], keepdims=0),
        helper.make_node("Sign", ["most"], ["sign"]),
        helper.make_node("Cast", ["sign"], ["number"], to=kind.INT64),
        helper.make_node("Constant", [], ["sides"], value=side),
        shape,
        helper.make_node("ConstantOfShape", ["shape"], ["filled"], value=one),
        helper.make_node("ReduceMin", ["filled"], ["least"], keepdims=0),
        helper.make_node("Mul", ["scaled", "least"], ["again"]),
        helper.make_node("Softmax", ["again"], ["probabilities"], axis=-1),
    ]


def test_a_model_that_never_ends_is_stopped(tlstudy: Tlstudy, here: Path) -> None:
    tiny_model(here / "endless.onnx", last=endless())
    done = tlstudy("predict", "endless.onnx", "red.png", "--timeout", "2")
    assert (done.code, done.out) == (1, "")
    assert "endless.onnx: took more than 2 seconds for 1 image and was stopped." in done.text
    assert "--timeout SECONDS" in done.text


def test_a_model_that_takes_all_memory_is_stopped_and_may_be_given_more(tlstudy: Tlstudy, here: Path) -> None:
    tiny_model(here / "greedy.onnx", last=greedy(1))
    done = tlstudy("predict", "greedy.onnx", "red.png", "--memory", "0.6")
    assert (done.code, done.out) == (1, "")
    assert "greedy.onnx: took more than 600 MB of memory for 1 image and was stopped." in done.text
    assert "--memory GB" in done.text
    assert tlstudy("predict", "greedy.onnx", "red.png").code == 0


def test_a_model_is_not_left_behind(here: Path) -> None:
    """Whoever is killed cannot end its child: that notices itself."""
    tiny_model(here / "endless.onnx", last=endless())
    done = start("predict", "endless.onnx", "red.png", cwd=here)
    deadline = time.monotonic() + 60
    while not (children := serving(done.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert children
    done.kill()
    done.communicate()
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def serving(parent: int) -> list[int]:
    """The processes of models that a process started (Linux)."""
    found = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(child) for child in found if b"tuner.export.serving" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (("Identity", {}), "gave numbers from 3 to 20, together 26 for an image; expected probabilities"),
        (("Sigmoid", {}), "gave numbers from 0.9526 to 1, together 2.905 for an image; expected probabilities"),
        (("LogSoftmax", {"axis": -1}), "gave numbers from -17 to 0, together -34 for an image"),
        (("Log", {}), ""),
    ],
)
def test_what_are_no_probabilities_is_not_shown_as_such(
    tlstudy: Tlstudy, here: Path, last: tuple[str, dict[str, int]], said: str
) -> None:
    kind, options = last
    tiny_model(here / "odd.onnx", last=[onnx.helper.make_node(kind, ["scaled"], ["probabilities"], **options)])
    done = tlstudy("predict", "odd.onnx", "red.png")
    assert (done.code, done.out) == (2, "")
    assert (said or "odd.onnx: gave numbers from") in done.text


def test_a_keras_file_that_unpacks_to_more_than_a_model_is_not_read(tlstudy: Tlstudy, here: Path) -> None:
    """A hundred megabytes of blanks in 100 kB."""
    with zipfile.ZipFile(here / "bomb.keras", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("metadata.json", "{}")
        with file.open("config.json", "w") as config:
            for _ in range(100):
                config.write(b" " * 1_000_000)
        file.writestr("model.weights.h5", b"")
    done = tlstudy("predict", "bomb.keras", "red.png")
    assert (done.code, done.out) == (2, "")
    assert "config.json in it takes 100 MB unpacked, expected at most 50 MB" in done.text


@pytest.mark.parametrize("name", ["pipe.keras", "pipe.onnx", "pipe.tflite"])
def test_a_pipe_is_no_model(tlstudy: Tlstudy, here: Path, name: str) -> None:
    os.mkfifo(here / name)
    done = tlstudy("predict", name, "red.png")
    assert done.code == 2 and f"{name}: cannot be read (not a regular file)" in done.text


def test_a_runtime_that_crashes_ends_in_a_message(here: Path) -> None:
    from tuner.errors import RunError
    from tuner.export.apart import Apart, Limits

    with Apart(here / "tiny.onnx", Limits(seconds=60, memory=8)) as apart:
        reader = apart.reader()
        image = np.full((1, 16, 16, 3), RED, np.uint8)
        assert reader.probabilities(image).argmax() == 0
        apart._process.send_signal(11)
        with pytest.raises(RunError, match=r"tiny.onnx: ended by signal 11 \(SIGSEGV\) for 1 image"):
            reader.probabilities(image)


# ---- the model's checksum ----


def test_verify_compares_with_the_card(tlstudy: Tlstudy, here: Path) -> None:
    from tuner.export.sums import told

    ask = ("predict", "tiny.onnx", "red.png", "--verify")
    card, model = here / "tiny.onnx.card.md", here / "tiny.onnx"
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    done = tlstudy(*ask)
    assert done.code == 2 and "tiny.onnx.card.md: cannot be read (No such file or directory)" in done.text
    card.write_text("# Model card: an older one\n")
    done = tlstudy(*ask)
    assert done.code == 2 and "tiny.onnx.card.md: holds no SHA-256, expected one" in done.text
    card.write_text(f"# Model card\n\n{told(digest)}\n")
    done = tlstudy(*ask)
    assert done.code == 0 and f"tiny.onnx is what its card says (SHA-256 {digest})." in done.text
    data = bytearray(model.read_bytes())
    data[data.index(np.float32(10).tobytes())] ^= 1  # a weight
    model.write_bytes(data)
    assert tlstudy(*ask[:-1]).code == 0, "the runtime sees nothing"
    done = tlstudy(*ask)
    assert (done.code, done.out) == (2, "")
    assert f"expected {digest}, as tiny.onnx.card.md says" in done.text


def test_the_checksum_of_a_folder_is_what_the_shell_says(tmp_path: Path) -> None:
    from tuner.export.sums import sum_of

    for name in ("saved_model.pb", "variables/variables.index", "assets.extra/tlstudy.json"):
        (tmp_path / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "model" / name).write_text(name)
    shell = "find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum"
    said = subprocess.run(shell, shell=True, cwd=tmp_path / "model", capture_output=True, text=True, check=True)
    assert said.stdout.split()[0] == sum_of(tmp_path / "model")
