"""SavedModel, ONNX and LiteRT of one tiny study, each read by its own runtime in a process that knows nothing of us.

One file, because the conversions take most of its time: they are made once, and everything that needs them is here.
"""

from __future__ import annotations

import csv
import errno
import importlib.util
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli.cli_programs import process
from export.exporting import Case, elsewhere, export

from tuner.evidence.results import Results
from tuner.export.formats import FORMATS, Contents, card_path
from tuner.export.predict import files, predict
from tuner.export.reading import open_model
from tuner.export.saving import put_in_place
from tuner.store.folder import StudyFolder

TARGETS = {"savedmodel": "model", "onnx": "model.onnx", "litert": "model.tflite"}


def missing(name: str) -> str:
    """The packages that a format's tests need and this machine lacks."""
    return ", ".join(p for m, p in FORMATS[name].writes.items() if importlib.util.find_spec(m) is None)


EVERY = [
    pytest.param(name, marks=pytest.mark.skipif(bool(missing(name)), reason=f"not installed: {missing(name)}"))
    for name in TARGETS
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runtimes")


@pytest.fixture(scope="module")
def made(finished: StudyFolder, place: Path) -> Any:
    """Exports a format when it is first asked for."""
    cases: dict[str, Case] = {}

    def make(name: str) -> Case:
        if name not in cases:
            cases[name] = export(finished, place / TARGETS[name])
        return cases[name]

    return make


READERS = {
    "savedmodel": """
        import json, os
        import numpy as np
        import tensorflow as tf
        path, squares = map(json.loads, sys.argv[1:])
        about = json.load(open(path + "/assets.extra/tlstudy.json"))
        model = tf.saved_model.load(path)  # kept: its functions do not hold its variables
        said = model.serve(np.load(squares).astype(np.float32)).numpy()
    """,
    "onnx": """
        import json
        import numpy as np
        import onnxruntime
        path, squares = map(json.loads, sys.argv[1:])
        session = onnxruntime.InferenceSession(path)
        about = json.loads(session.get_modelmeta().custom_metadata_map["tlstudy"])
        said = session.run(None, {"square": np.load(squares).astype(np.float32)})[0]
    """,
    "litert": """
        import json, zipfile
        import numpy as np
        from ai_edge_litert.interpreter import Interpreter
        path, squares = map(json.loads, sys.argv[1:])
        about = json.loads(zipfile.ZipFile(path).read("tlstudy.json"))
        answer = Interpreter(model_path=path).get_signature_runner()(square=np.load(squares).astype(np.float32))
        said = answer["output_0"]
    """,
}
ANSWER = """
        light = not any(name in sys.modules for name in ("keras", "tensorflow"))
        print(json.dumps([about, said.astype(float).tolist(), light]))
"""


@pytest.mark.parametrize("name", EVERY)
def test_its_own_runtime_agrees_with_the_stored_predictions(name: str, made: Any, place: Path) -> None:
    case = made(name)
    np.save(place / "squares.npy", case.squares)
    about, said, light = elsewhere(READERS[name] + ANSWER, place, str(case.target), str(place / "squares.npy"))
    assert about == {"classes": list(case.classes), "image_size": 32, "resize": "crop"}
    assert np.abs(np.array(said) - case.expected).max() < 1e-3
    assert light == (name != "savedmodel"), "ONNX and LiteRT need no TensorFlow to be read"


@pytest.mark.parametrize("name", EVERY)
def test_what_is_said_is_true(name: str, made: Any) -> None:
    exported = made(name).exported
    assert exported.largest_difference < 1e-3
    assert (exported.largest_raw_difference is None) == FORMATS[name].squares
    sizes = [p.stat().st_size for p in [exported.path, *exported.path.rglob("*")] if p.is_file()]
    assert exported.bytes == sum(sizes) > 1e6
    labels = Results.open(made(name).folder.database).study.val_labels
    assert abs(exported.correct - int((made(name).expected.argmax(axis=1) == labels).sum())) <= 1
    assert set(exported.versions) >= {"tlstudy", "keras", *FORMATS[name].writes.values()}
    sentence = exported.sentence("FILE")
    assert f"{exported.correct}/{len(labels)} right" in sentence and "process of its own" in sentence
    assert ("raw photographs" in sentence) != FORMATS[name].squares
    assert not list(exported.path.parent.glob(".*")), "no part is left beside it"


@pytest.mark.parametrize("name", EVERY)
def test_predict_says_what_the_trial_said(name: str, made: Any) -> None:
    """From the files, in one batch and one by one, through our own decoder."""
    case = made(name)
    reader = open_model(case.target)
    assert reader.contents == Contents(case.classes, 32, "crop")
    paths = [str(path) for path in case.photographs]
    for asked in (paths, paths[:1], paths[:3] * 20):
        found = list(predict(reader, files(asked)))
        assert [p.path for p in found] == asked
        wanted = case.expected[[paths.index(p) for p in asked]]
        assert np.abs(np.array([p.probabilities for p in found]) - wanted).max() < 1e-3


def test_a_folder_is_replaced_whole_or_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("target", "old"), ("beside/new", "new")):
        (tmp_path / name / "variables").mkdir(parents=True)
        (tmp_path / name / "variables" / text).write_text(text)
    rename = os.replace

    def fails_once(source: Path, target: Path) -> None:
        if Path(source).name == "new":
            raise OSError(errno.EIO, "the disk failed")
        rename(source, target)

    monkeypatch.setattr(os, "replace", fails_once)
    with pytest.raises(OSError, match="the disk failed"):
        put_in_place(tmp_path / "beside" / "new", tmp_path / "target")
    assert (tmp_path / "target" / "variables" / "old").read_text() == "old"
    monkeypatch.setattr(os, "replace", rename)
    put_in_place(tmp_path / "beside" / "new", tmp_path / "target")
    assert [p.name for p in (tmp_path / "target" / "variables").iterdir()] == ["new"]


@pytest.mark.parametrize("name", EVERY[1:2])
def test_the_command_line_predicts(name: str, made: Any, place: Path) -> None:
    case = made(name)
    bad = place / "bad.jpg"
    bad.write_text("no photograph")
    done = process("predict", case.target, case.photographs[0].parent, bad, "--format", "csv", cwd=place)
    assert done.code == 1
    assert "bad.jpg: not an image (text)" in done.err and "1 of 5 files could not be read" in done.err
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert [Path(row["path"]).name for row in rows] == [f"{i:02d}.jpg" for i in range(4)]
    for row, wanted in zip(rows, case.expected, strict=False):
        assert np.allclose([float(row[f"p_{name}"]) for name in case.classes], wanted, atol=1e-3)


def test_a_refit_is_told_checked_and_the_same_again(finished: StudyFolder, tmp_path: Path) -> None:
    """The refit, as .keras: trained on all 18 photographs, told so everywhere, and the same again."""
    from tuner.export import refit
    from tuner.export.study import _as_searched, _chosen

    done = process("best", finished.root, "--export", "m.keras", "--refit", cwd=tmp_path)
    assert done.code == 0, done.text
    assert "no image is left to judge it by" in done.text and "Its model card is m.keras.card.md." in done.text
    card = card_path(tmp_path / "m.keras").read_text()
    assert "Trained again on all 18 training and validation photographs" in card
    assert "no image is left to judge it by" in card
    chosen = _chosen(finished, Results.open(finished.database), baseline=False)
    dataset, backbone = _as_searched(finished, chosen)
    said = refit.train(
        chosen.spec,
        dataset,
        backbone,
        chosen.configuration,
        chosen.hyperparameters,
        chosen.best_epoch,
        tmp_path / "passing",
        lambda text: None,
    )
    assert said.photographs == 18 and not said.tested
    assert np.abs(said.expected - chosen.expected).max() > 1e-4, "it is another network than the trial's"
    asked = files(str(dataset.root / dataset.photographs[i].path) for i in dataset.indices("val"))
    found = [p.probabilities for p in predict(open_model(tmp_path / "m.keras"), asked)]
    assert np.abs(np.array(found) - said.expected).max() < 1e-3, "another process trains the same network"


def test_how_long_a_refit_trains() -> None:
    from tuner.export.refit import median_epoch

    assert [median_epoch(epochs) for epochs in ([3], [1, 5, 2], [4, 7], [0])] == [3, 2, 4, 1]
