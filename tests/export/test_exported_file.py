"""Exported files of every format in processes of their own, without this package: what a user does with them.

One file, because training, converting and the processes take most of its time: one of each, and all tests look at it.
"""

from __future__ import annotations

import importlib.util
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli.cli_programs import forked
from export.exporting import Case, elsewhere, model_of
from image_files import image_file, pixels
from search.studies import make, search, spec

from tuner import Study
from tuner.backbones.architecture import architecture
from tuner.errors import ExportError, UsageError
from tuner.evidence.recommendation import exported
from tuner.evidence.results import Results
from tuner.export import checking, saving
from tuner.export.formats import FORMATS, Contents, card_path
from tuner.export.predict import files, predict
from tuner.export.reading import open_model
from tuner.export.refit import median_epoch
from tuner.export.sums import verify
from tuner.report.card import card
from tuner.report.facts import study_lines
from tuner.store.folder import StudyFolder

pytestmark = pytest.mark.timeout(600)  # one fixture makes everything

NAMES = ("Zürich", "<script>", "日本 \"quoted\" & 'all'")
KERAS = ["three classes, pad", "baseline, squash", "several cuts, crop"]
OTHERS = {"savedmodel": "model", "onnx": "model.onnx", "litert": "model.tflite"}
MIRRORED = [KERAS[0], "savedmodel", "onnx"]
"""Those that average over an image and its mirror image, by themselves."""


def missing(name: str) -> str:
    """The packages that a format's tests need and this machine lacks."""
    return ", ".join(p for m, p in FORMATS[name].writes.items() if importlib.util.find_spec(m) is None)


HERE = [name for name in OTHERS if not missing(name)]
EVERY = [
    *KERAS,
    *(
        pytest.param(name, marks=pytest.mark.skipif(name not in HERE, reason=f"not installed: {missing(name)}"))
        for name in OTHERS
    ),
]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """Ten trained layers, three classes with difficult names, photographs padded, confirmed by two folds, everything
    predicted as it is and mirrored."""
    folder = make(tmp_path_factory.mktemp("three") / "study", NAMES)
    short = {"search__seed": 3, "confirm__folds": 2, "confirm__repeats": 1, "space__head_width": 0}
    # Folds whose best epochs are others than the winner's.
    short |= {"search__checkpoint": "best", "search__schedule": "constant", "search__warmup_epochs": 0.0}
    short |= {"search__tta": "flip", "space__head_init": "random"}
    rates = {"min": 1e-4, "max": 1e-2, "sampling": "log"}
    search(folder, spec(**short, data__resize="pad", space__unfrozen_layers=10, space__learning_rate=rates))
    return folder


@pytest.fixture(scope="module")
def cases(
    finished: StudyFolder, three: StudyFolder, several: StudyFolder, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Case]:
    """Frozen, by regression on several cuts and with trained layers, each way of resizing, plain or mirrored, every
    format: checked by one process."""
    place = tmp_path_factory.mktemp("exports")
    squash = make(place / "squash")
    short = {"search__max_epochs": 1, "search__factor": 2}
    search(squash, spec(**short, data__resize="squash", space__unfrozen_layers=0), confirm=False)
    (place / "squash.keras").write_bytes(b"an older model")
    folders = dict.fromkeys(MIRRORED, three) | {KERAS[1]: squash, KERAS[2]: several, "litert": finished}
    models = {
        KERAS[0]: model_of(three, place / "new folder" / "three.keras"),
        KERAS[1]: model_of(squash, place / "squash.keras", baseline=True),
        KERAS[2]: model_of(several, place / "several.keras", baseline=True),
    }
    for name in HERE:
        target = place / OTHERS[name]
        same = name == "savedmodel"  # takes what a .keras file takes
        models[name] = (
            replace(models[KERAS[0]], target=target, kind=FORMATS[name]) if same else model_of(folders[name], target)
        )
    exported = checking.export(list(models.values()), force=True)
    return {
        name: Case(Results.open(folders[name].database), models[name], done)
        for name, done in zip(models, exported, strict=True)
    }


READER = """
    import json, sys
    import numpy as np

    def plain(values):
        return np.asarray(values).astype(float).tolist()

    def of_keras(path, squares):
        import keras

        model = keras.models.load_model(path)  # safe mode is the default
        tall, wide = np.load("tall.npy"), np.load("wide.npy")
        return {
            "contents": list(model.get_layer("classes").bias_initializer.value),
            "squares": plain(model(squares)),
            "floats": plain(model.predict(squares.astype("float32"), verbose=0)),
            "tall": plain(model(tall[None])),
            "wide": plain(model(wide[None].astype("float32"))),
            "inputs": [str(model.input_shape), model.inputs[0].dtype],
            "parameters": [sum(int(np.prod(v.shape)) for v in w) for w in
                           (model.trainable_weights, model.non_trainable_weights)],
        }

    def of_savedmodel(path, squares):
        import tensorflow as tf

        model = tf.saved_model.load(path)
        said = model.serve(squares.astype(np.float32)).numpy()
        return {"contents": json.load(open(path + "/assets.extra/tlstudy.json")), "squares": plain(said)}

    def of_onnx(path, squares):
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        about = json.loads(session.get_modelmeta().custom_metadata_map["tlstudy"])
        return {"contents": about, "squares": plain(session.run(None, {"square": squares.astype(np.float32)})[0])}

    def of_litert(path, squares):
        import zipfile
        from ai_edge_litert.interpreter import Interpreter

        run = Interpreter(model_path=path).get_signature_runner()
        about = json.loads(zipfile.ZipFile(path).read("tlstudy.json"))
        return {"contents": about, "squares": plain(run(square=squares.astype(np.float32))["output_0"])}

    answers = {}
    for name, (format, path, squares) in json.loads(sys.argv[1]).items():
        answers[name] = globals()["of_" + format](path, np.load(squares))
        answers[name]["light"] = not any(name in sys.modules for name in ("keras", "tensorflow"))
    print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def answers(cases: dict[str, Case], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a fresh process far from here, isolated from this project, reads out of the files; the light ones first."""
    place = tmp_path_factory.mktemp("elsewhere")
    np.save(place / "tall.npy", pixels(71, 30, 61))
    np.save(place / "wide.npy", pixels(72, 64, 21))
    asked = {}
    for number, name in enumerate(sorted(cases, key=lambda name: not cases[name].candidate.kind.squares)):
        found = cases[name].candidate
        np.save(place / f"{number}.npy", found.images)
        asked[name] = (found.kind.name, str(found.target), str(place / f"{number}.npy"))
    return dict(elsewhere(READER, place, asked))


def test_the_cases_are_what_they_are_called(cases: dict[str, Case]) -> None:
    assert list(cases) == [*KERAS, *HERE]
    depths = [dict(case.results.ranking(None).set_index("id")["unfrozen_layers"]) for case in cases.values()]
    ids = [case.exported.configuration for case in cases.values()]
    assert [depth[id] for depth, id in zip(depths[:2], ids[:2], strict=True)] == [10, 0]
    assert ids[2] == "cuts-s01" and [id[0] for id in ids] == ["c", "b", "c", *("c" for _ in HERE)]


@pytest.mark.parametrize("name", EVERY)
def test_class_names_stand_in_the_file(name: str, cases: dict[str, Case], answers: dict[str, Any]) -> None:
    contents = cases[name].exported.contents
    assert contents.classes == cases[name].results.study.classes
    if name in KERAS:
        assert answers[name]["contents"] == list(contents.classes)
        assert "three" not in name or set(contents.classes) == set(NAMES)
    else:
        resize = cases[name].results.study.spec.data.resize
        assert answers[name]["contents"] == {"classes": list(contents.classes), "image_size": 32, "resize": resize}


@pytest.mark.parametrize("name", EVERY)
def test_its_own_runtime_agrees_with_the_stored_predictions(
    name: str, cases: dict[str, Case], answers: dict[str, Any]
) -> None:
    case = cases[name]
    expected = case.results.predictions(case.exported.configuration)
    assert expected is not None
    assert np.abs(np.array(answers[name]["squares"]) - expected).max() < 1e-3
    assert answers[name]["light"] == case.exported.kind.squares, "ONNX and LiteRT need no TensorFlow to be read"


@pytest.mark.parametrize("name", KERAS)
def test_any_size_and_type_gives_probabilities(name: str, cases: dict[str, Case], answers: dict[str, Any]) -> None:
    found = answers[name]
    for kind in ("squares", "floats", "tall", "wide"):
        values = np.array(found[kind])
        assert values.shape[1] == len(cases[name].exported.contents.classes)
        assert np.allclose(values.sum(axis=1), 1, atol=1e-5) and (values >= 0).all()
    assert np.allclose(found["squares"], found["floats"], atol=1e-6), "uint8 and float are one photograph"
    assert found["inputs"] == ["(None, None, None, 3)", "float32"]


@pytest.mark.parametrize("name", KERAS)
def test_the_file_resizes_as_the_study_did(name: str, cases: dict[str, Case], answers: dict[str, Any]) -> None:
    """A tall and a wide photograph through the file, and decoded by the study and then through the model."""
    from tuner.images.decode import to_square

    resize = cases[name].results.study.spec.data.resize
    assert resize == name.split(", ")[1]
    pictures = {"tall": pixels(71, 30, 61), "wide": pixels(72, 64, 21)}
    squares = np.stack([to_square(picture, 32, resize) for picture in pictures.values()])
    wanted = np.asarray(cases[name].candidate.model(squares, training=False))
    for kind, expected in zip(pictures, wanted, strict=True):
        assert np.abs(np.array(answers[name][kind])[0] - expected).max() < 0.02


@pytest.mark.parametrize("name", KERAS)
def test_trained_and_frozen_parameters_are_told_apart(
    name: str, cases: dict[str, Case], answers: dict[str, Any]
) -> None:
    row = cases[name].results.configurations().set_index("id").loc[cases[name].exported.configuration]
    assert answers[name]["parameters"][0] == row["trained_parameters"]


@pytest.mark.parametrize("name", EVERY)
def test_what_is_said_is_true(name: str, cases: dict[str, Case]) -> None:
    exported, labels = cases[name].exported, cases[name].results.study.val_labels
    squares = exported.kind.squares
    assert exported.largest_difference < 1e-3 and exported.photographs == len(labels)
    assert squares if exported.largest_raw_difference is None else exported.largest_raw_difference < 0.02
    sizes = [p.stat().st_size for p in [exported.path, *exported.path.rglob("*")] if p.is_file()]
    assert exported.bytes == sum(sizes) > 1e6
    expected = cases[name].candidate.expected
    # The raw photographs are 48 x 40; the file sees them as the study did, to rounding.
    fitted = exported.configuration == "cuts-s01"  # to these photographs too: what it has right of them tells nothing
    right = int((expected.argmax(axis=1) == labels).sum())
    assert exported.correct is None if fitted else abs((exported.correct or 0) - right) <= 1
    assert set(exported.versions) >= {"tlstudy", "keras", *exported.kind.writes.values()}
    sentence = exported.sentence("FILE")
    assert (f"{exported.correct}/{len(labels)} right" in sentence) != fitted
    assert f"configuration {exported.configuration.partition('-')[0]}" in sentence
    assert "process of its own" in sentence and ("raw photographs" in sentence) != squares
    assert "probabilities" in exported.summary
    assert not list(exported.path.parent.glob(".*")), "no part is left beside it"


def test_the_head_of_several_cuts_is_as_wide_as_they_are_together(cases: dict[str, Case]) -> None:
    case, network = cases[KERAS[2]], architecture(image_size=32)
    cuts = str(case.results.hyperparameters("cuts")["cuts"]).split(", ")
    width = sum(network.shape(cut)[-1] for cut in cuts)
    assert len(cuts) > 1 and case.candidate.model.get_layer("head_logits").kernel.shape == (width, 1)
    assert case.exported.correct is None


@pytest.mark.parametrize("name", EVERY[-2:])
def test_predict_says_what_the_trial_said(name: str, cases: dict[str, Case]) -> None:
    """From the files, in one batch and one by one, through our own decoder."""
    case = cases[name].candidate
    reader = open_model(case.target)
    assert reader.contents == case.contents
    paths = [str(path) for path in case.files]
    for asked in (paths, paths[:1], paths[:3] * 20):
        found = list(predict(reader, files(asked)))
        assert [p.path for p in found] == asked
        wanted = case.expected[[paths.index(p) for p in asked]]
        assert np.abs(np.array([p.probabilities for p in found]) - wanted).max() < 1e-3


def test_a_flipped_bit_of_a_weight_is_seen_by_the_card_alone(cases: dict[str, Case], tmp_path: Path) -> None:
    for name, case in cases.items():
        model, exported = tmp_path / case.exported.path.name, case.exported
        copy = shutil.copytree if exported.path.is_dir() else shutil.copyfile
        copy(exported.path, model)
        card_path(model).write_text(card(case.results, exported, study="study"))
        assert verify(model) == exported.sha256
        weights = max((p for p in [model, *model.rglob("*")] if p.is_file()), key=lambda p: p.stat().st_size)
        with open(weights, "r+b") as file:
            file.seek(weights.stat().st_size // 2)
            byte = file.read(1)[0]
            file.seek(-1, 1)
            file.write(bytes([byte ^ 1]))
        if name in ("onnx", "litert"):
            assert open_model(model).contents == case.candidate.contents, "the runtime sees nothing"
        with pytest.raises(UsageError, match=rf"has the SHA-256 .* expected {exported.sha256}, as .*\.card\.md says"):
            verify(model)


# ---- mirror images ----


def test_what_is_stored_is_the_mean_of_two_plain_passes(cases: dict[str, Case]) -> None:
    """The exported model up to its mean: the images' probabilities, then their mirror images'."""
    import keras

    case = cases[KERAS[0]].candidate
    passes = keras.Model(case.model.input, case.model.get_layer("probabilities").output)
    one, other = np.split(np.asarray(passes(case.images)), 2)
    swapped = np.concatenate(np.split(np.asarray(passes(np.ascontiguousarray(case.images[:, :, ::-1]))), 2)[::-1])
    assert np.abs(swapped - np.concatenate([one, other])).max() < 1e-5, "a pass sees nothing of the other one"
    assert np.abs((one + other) / 2 - case.expected).max() < 1e-4 < 1e-3 < np.abs(one - other).max()


@pytest.mark.parametrize("name", [name for name in EVERY if name != KERAS[2]])  # told by brightness, either way round
def test_a_file_that_averages_says_the_same_of_a_mirror_image_and_is_no_larger(
    name: str, cases: dict[str, Case]
) -> None:
    case = cases[name]
    reader, some = open_model(case.exported.path), case.candidate.images[:3]
    differs = np.abs(reader.probabilities(some[:, :, ::-1]) - reader.probabilities(some)).max()
    assert differs < 1e-5 if name in MIRRORED else differs > 1e-3
    copies = 2 if name == "savedmodel" else 1  # Keras's own SavedModels hold each weight twice
    assert case.exported.bytes < 1.05 * copies * 4 * case.candidate.model.count_params()


def test_card_and_report_say_that_predictions_are_averaged(cases: dict[str, Case]) -> None:
    for name, mirrored in ((KERAS[0], True), (KERAS[1], False)):
        case = cases[name]
        text = card(case.results, case.exported, study="study", baseline=not mirrored)
        assert ("the mean over the image and its mirror image" in text) == mirrored
        lines = dict(study_lines(case.results))
        assert ("mirror image" in lines.get("predictions", "")) == mirrored


# ---- a refit ----


def test_a_refit_is_the_same_from_both_doors_and_trains_as_long_as_the_folds_took(
    three: StudyFolder, tmp_path: Path
) -> None:
    """The command line's in a process of its own and this process's: told, checked, and the same numbers."""
    results = Results.open(three.database)
    folds, winner = results.best_epochs_of_folds(), results.winner()
    assert winner is not None
    assert len(folds) == 2 and median_epoch(folds) != winner["best_epoch"], "else this study shows nothing"

    done = forked("best", three.root, "--export", "cli.keras", "--winner", "--refit", cwd=tmp_path)
    assert done.code == 0, done.text
    assert "no image is left to judge it by" in done.text and "Its model card is cli.keras.card.md." in done.text
    use, card = results.recommendation(), card_path(tmp_path / "cli.keras").read_text()
    assert use is not None and " ".join(exported(use, "winner", results.findings()).split()) in done.text
    assert "Trained again on all 27 training and validation photographs" in card
    assert "no image is left to judge it by" in card

    lines: list[str] = []
    again = Study(three).export(tmp_path / "api.keras", which="winner", refit=True, progress=lines.append)
    assert again.refit is not None and again.refit.epochs == median_epoch(folds)
    assert lines[-1] == exported(use, "winner", results.findings())
    told = [line for line in lines if line.startswith("Refit")]
    assert told[-1] == f"Refit: epoch {again.refit.epochs} of {again.refit.epochs}"
    assert again.refit.sentence() in done.text and again.refit.photographs == 27 and not again.refit.tested
    assert weights(tmp_path / "cli.keras") == weights(tmp_path / "api.keras")
    expected = results.predictions(again.configuration)
    assert np.abs(again.refit.expected - expected).max() > 1e-4, "it is another network than the trial's"


def weights(path: Path) -> bytes:
    """All numbers of a .keras file; Keras numbers the layers by what else the process made."""
    with zipfile.ZipFile(path) as file:
        return file.read("model.weights.h5")


def test_how_long_a_refit_trains() -> None:
    assert [median_epoch(epochs) for epochs in ([3], [1, 5, 2], [4, 7], [0])] == [3, 2, 4, 1]


# ---- what is refused ----


def test_an_existing_file_is_kept_without_force(cases: dict[str, Case], tmp_path: Path) -> None:
    target = tmp_path / "model.keras"
    target.write_bytes(b"mine")
    with pytest.raises(UsageError, match="exists and is kept.*--force"):
        checking.export([replace(cases[KERAS[1]].candidate, target=target)])
    assert target.read_bytes() == b"mine"
    assert [p.name for p in tmp_path.iterdir()] == ["model.keras"]
    assert cases[KERAS[1]].exported.path.stat().st_size > 1e6, "with force it was overwritten"


@pytest.mark.skipif("onnx" not in HERE, reason=f"not installed: {missing('onnx')}")
def test_what_cannot_be_read_or_says_something_else_is_refused_and_the_old_files_stay(
    cases: dict[str, Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of the models that are whole: what is checked together is put in place together."""
    whole = replace(cases["onnx"].candidate, target=tmp_path / "whole.onnx")
    file = cases["onnx"].candidate.target.read_bytes()

    def save(model: Any, kind: Any, path: Path, contents: Contents) -> None:
        path.write_bytes(file[:1000] if "half" in path.name else file)

    monkeypatch.setattr(saving, "save", save)
    renamed = replace(whole.contents, classes=("dog", "cat"))
    for name, changes, said in (
        ("half", {}, r"could not be read in a process of its own \(exit code 1: .*half.onnx: cannot be read"),
        ("renamed", {"contents": renamed}, "the saved file carries .*expected .*"),
        ("tampered", {"expected": whole.expected + np.float32(0.01)}, "differs from the trial it came from by 0.01"),
    ):
        asked = [whole, *(replace(whole, target=tmp_path / f"{n}.onnx") for n in (name, "last"))]
        for one in asked:
            one.target.write_bytes(b"the old model")
        with pytest.raises(ExportError, match=f"{name}.onnx: .*{said}.*not put in place"):
            checking.export([whole, replace(asked[1], **changes), asked[2]], force=True)
        assert {path.read_bytes() for path in tmp_path.iterdir()} == {b"the old model"}
        asked[1].target.unlink()
    assert {path.name for path in tmp_path.iterdir()} == {"whole.onnx", "last.onnx"}, "and no part of the new ones"


def test_a_difference_that_is_not_a_number_is_no_agreement(cases: dict[str, Case]) -> None:
    case = cases[KERAS[1]].candidate
    assert checking.difference(case, case.expected + 1e-4, "the model", 1e-3) < 1e-3
    for more in (2e-3, float("nan"), float("inf")):
        with pytest.raises(ExportError, match="differs"):
            checking.difference(case, case.expected + np.float32(more), "the model", 1e-3)
    with pytest.raises(ExportError, match="differs"):
        checking.difference(case, case.expected[:1], "the model", 1e-3)


def spoil_checkpoint(folder: StudyFolder) -> None:
    for path in folder.checkpoints.iterdir():
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)


def lose_checkpoint(folder: StudyFolder) -> None:
    shutil.rmtree(folder.checkpoints)


def change_photograph(folder: StudyFolder) -> None:
    image_file(folder.root / "photos" / "val" / "cat" / "00.jpg", 4711)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_checkpoint, "missing or damaged .* trained again, to the same bits, by: tlstudy search /"),
        (lose_checkpoint, "trained again, to the same bits, by: tlstudy search /"),
        (change_photograph, "the photographs changed"),
    ],
)
def test_a_study_that_cannot_be_checked_is_not_exported(
    spoil: Callable[[StudyFolder], None], said: str, finished: StudyFolder, tmp_path: Path
) -> None:
    shutil.copytree(finished.root, tmp_path / "copy")
    folder = StudyFolder(tmp_path / "copy")
    spoil(folder)
    with pytest.raises(UsageError, match=said):
        model_of(folder, tmp_path / "model.keras")
    assert not (tmp_path / "model.keras").exists()
