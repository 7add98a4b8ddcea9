"""The exported file in a process of its own, with Keras alone: what a user does with it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export.exporting import Case, again, elsewhere, export
from photographs import pixels
from search.studies import make, search, spec

from tuner.errors import ExportError, UsageError
from tuner.evidence.results import Results
from tuner.store.folder import StudyFolder

NAMES = ("Zürich", "<script>", "日本 \"quoted\" & 'all'")


@pytest.fixture(scope="module")
def cases(finished: StudyFolder, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    """Frozen and with trained layers, two classes and three with difficult names, every way of resizing."""
    place = tmp_path_factory.mktemp("exports")
    short: dict[str, Any] = {"search__max_epochs": 1, "search__factor": 2}
    three = make(place / "three", NAMES)
    search(three, spec(**short, data__resize="pad", space__unfrozen_layers=10), confirm=False)
    squash = make(place / "squash")
    search(squash, spec(**short, data__resize="squash", space__unfrozen_layers=0), confirm=False)
    (place / "winner.keras").write_bytes(b"an older model")
    return {
        "winner, crop": export(finished, place / "winner.keras", force=True),
        "three classes, pad": export(three, place / "new folder" / "three.keras"),
        "baseline, squash": export(squash, place / "squash.keras", baseline=True),
    }


READER = """
    import json, sys
    import numpy as np
    import keras

    def plain(values):
        return np.asarray(values).astype(float).tolist()

    answers = {}
    for name, (path, squares) in json.loads(sys.argv[1]).items():
        model = keras.models.load_model(path)  # safe mode is the default
        squares, tall, wide = np.load(squares), np.load("tall.npy"), np.load("wide.npy")
        answers[name] = {
            "classes": list(model.get_layer("classes").bias_initializer.value),
            "squares": plain(model.predict(squares, verbose=0)),
            "floats": plain(model(squares.astype("float32"))),
            "tall": plain(model(tall[None])),
            "wide": plain(model(wide[None].astype("float32"))),
            "inputs": [str(model.input_shape), model.inputs[0].dtype],
            "parameters": [sum(int(np.prod(v.shape)) for v in w) for w in
                           (model.trainable_weights, model.non_trainable_weights)],
        }
    print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def answers(cases: dict[str, Case], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a fresh process far from here, isolated from this project, reads out of the files."""
    place = tmp_path_factory.mktemp("elsewhere")
    np.save(place / "tall.npy", pixels(71, 30, 61))
    np.save(place / "wide.npy", pixels(72, 64, 21))
    asked = {}
    for number, (name, case) in enumerate(cases.items()):
        np.save(place / f"{number}.npy", case.squares)
        asked[name] = (str(case.target), str(place / f"{number}.npy"))
    return dict(elsewhere(READER, place, asked))


EVERY = ["winner, crop", "three classes, pad", "baseline, squash"]


def test_the_cases_are_what_they_are_called(cases: dict[str, Case]) -> None:
    assert list(cases) == EVERY
    assert [cases[name].depth for name in EVERY[1:]] == [10, 0]
    assert [cases[name].exported.configuration[0] for name in EVERY] == ["c", "c", "b"]


@pytest.mark.parametrize("name", EVERY)
def test_class_names_stand_in_the_file(name: str, cases: dict[str, Case], answers: dict[str, Any]) -> None:
    assert tuple(answers[name]["classes"]) == cases[name].classes
    if "three" in name:
        assert set(answers[name]["classes"]) == set(NAMES)


@pytest.mark.parametrize("name", EVERY)
def test_it_agrees_with_the_stored_predictions(name: str, cases: dict[str, Case], answers: dict[str, Any]) -> None:
    case = cases[name]
    assert np.abs(np.array(answers[name]["squares"]) - case.expected).max() < 1e-3
    assert case.exported.largest_difference < 1e-3
    assert case.exported.largest_raw_difference < 0.02
    assert case.exported.photographs == len(case.expected)


@pytest.mark.parametrize("name", EVERY)
def test_any_size_and_type_gives_probabilities(name: str, cases: dict[str, Case], answers: dict[str, Any]) -> None:
    found = answers[name]
    for kind in ("squares", "floats", "tall", "wide"):
        values = np.array(found[kind])
        assert values.shape[1] == len(cases[name].classes)
        assert np.allclose(values.sum(axis=1), 1, atol=1e-5) and (values >= 0).all()
    assert np.allclose(found["squares"], found["floats"], atol=1e-6), "uint8 and float are one photograph"
    assert found["inputs"] == ["(None, None, None, 3)", "float32"]


@pytest.mark.parametrize("name", EVERY)
def test_the_file_resizes_as_the_study_did(name: str, cases: dict[str, Case], answers: dict[str, Any]) -> None:
    """A tall and a wide photograph through the file, and decoded by the study and then through the model."""
    from tuner.images.decode import to_square

    case = cases[name]
    resize = Results.open(case.folder.database).study.spec.data.resize
    assert resize in name or resize == "crop"
    for kind, picture in (("tall", pixels(71, 30, 61)), ("wide", pixels(72, 64, 21))):
        square = to_square(picture, 32, resize)
        wanted = np.asarray(case.model.predict_on_batch(square[None]))
        assert np.abs(np.array(answers[name][kind]) - wanted).max() < 0.02


def test_trained_and_frozen_parameters_are_told_apart(cases: dict[str, Case], answers: dict[str, Any]) -> None:
    for name, case in cases.items():
        row = Results.open(case.folder.database).configurations().set_index("id").loc[case.exported.configuration]
        assert answers[name]["parameters"][0] == row["trained_parameters"], name


def test_what_is_said_is_true(cases: dict[str, Case], answers: dict[str, Any]) -> None:
    for name, case in cases.items():
        exported = case.exported
        assert exported.bytes == case.target.stat().st_size
        labels = Results.open(case.folder.database).study.val_labels
        # The raw photographs are 48 x 40; the file sees them as the study did, to rounding.
        assert abs(exported.correct - int((case.expected.argmax(axis=1) == labels).sum())) <= 1
        sentence = exported.sentence("model.keras")
        assert f"{exported.correct}/{len(labels)} right" in sentence and exported.configuration in sentence, name


# ---- what is refused ----


def test_an_existing_file_is_kept_without_force(cases: dict[str, Case], tmp_path: Path) -> None:
    target = tmp_path / "model.keras"
    target.write_bytes(b"mine")
    with pytest.raises(UsageError, match="exists and is kept.*--force"):
        again(cases["baseline, squash"], target)
    assert target.read_bytes() == b"mine"
    assert [p.name for p in tmp_path.iterdir()] == ["model.keras"]
    overwritten = cases["winner, crop"].target
    assert overwritten.stat().st_size > 1e6, "with force it was overwritten"
    assert not list(overwritten.parent.glob(".*")), "and no part is left beside it"


def test_tampered_weights_are_refused_and_the_old_file_stays(cases: dict[str, Case], tmp_path: Path) -> None:
    case = cases["baseline, squash"]
    target = tmp_path / "model.keras"
    target.write_bytes(b"the old model")
    logits = case.model.get_layer("head_logits")
    before = logits.get_weights()
    logits.set_weights([before[0] + 0.01, before[1]])
    try:
        with pytest.raises(ExportError, match="differs from the trial it came from.*not put in place"):
            again(case, target, force=True)
    finally:
        logits.set_weights(before)
    assert target.read_bytes() == b"the old model"
    assert [p.name for p in tmp_path.iterdir()] == ["model.keras"], "and no part of the new one"


def test_a_difference_that_is_not_a_number_is_no_agreement(tmp_path: Path) -> None:
    from tuner.export import checking

    checking._agree(tmp_path, "the model", 1e-4, 1e-3)
    for difference in (2e-3, float("nan"), float("inf")):
        with pytest.raises(ExportError):
            checking._agree(tmp_path, "the model", difference, 1e-3)


def spoil_checkpoint(folder: StudyFolder) -> None:
    for path in folder.checkpoints.iterdir():
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)


def lose_checkpoint(folder: StudyFolder) -> None:
    shutil.rmtree(folder.checkpoints)


def change_photograph(folder: StudyFolder) -> None:
    from photographs import photograph

    photograph(folder.root / "photos" / "val" / "cat" / "00.jpg", 4711)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_checkpoint, "missing or damaged"),
        (lose_checkpoint, "missing or damaged"),
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
        export(folder, tmp_path / "model.keras")
    assert not (tmp_path / "model.keras").exists()
