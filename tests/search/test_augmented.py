"""A search over augmentations: to its end, the same after a stop, nothing made twice, the model exported plain."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from export.exporting import model_of
from faults import costless
from hypothesis import given
from hypothesis import strategies as st
from image_files import image_file
from search.studies import facts, make, own_cache, search, spec

from tuner.artifacts.entries import Artifacts
from tuner.backbones.architecture import architecture
from tuner.backends import backend
from tuner.errors import Interrupted
from tuner.evidence.results import Results
from tuner.features import bank
from tuner.images import reading, views
from tuner.report import figures, words
from tuner.report.page import embedded, page
from tuner.report.rows import NotAsked, NotYet
from tuner.report.sheet import sheet
from tuner.search import setup
from tuner.search.events import EpochEnded, Event, TrialEnded, TrialStarted
from tuner.search.planning import Plan, plan
from tuner.spec.spec import Spec
from tuner.store.folder import StudyFolder
from tuner.store.locate import write_study
from tuner.store.store import Store
from tuner.study import Study


def question(**changes: Any) -> Spec:
    """Configurations that see views alone, so that one of them wins."""
    few = {"space__dropout": 0.0, "search__max_epochs": 2, "search__factor": 2, "confirm__seeds": 1}
    return spec(**({"space__augmentation": ["light", "flip"], "data__views": 3} | few | changes))


class Done:
    """A search in a cache of its own, planned before and after, and what it had to do."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.cache = make(root / "study"), own_cache(root / "cache")
        patch.setenv("TLSTUDY_CACHE", str(self.cache))
        self.before = plan(self.folder, question())
        self.decoded = self.passes = 0
        decode, forward = reading.decode, backend.forward

        def counted(image: Any) -> Any:
            self.decoded += 1
            return decode(image)

        def made(model: Any) -> Any:
            run = forward(model)

            def call(batch: np.ndarray) -> Any:
                self.passes += 1
                return run(batch)

            return call

        patch.setattr(reading, "decode", counted)
        patch.setattr(backend, "forward", made)
        write_study(self.folder, question(), "augmented")
        Study(self.folder).search()
        self.after: Plan = plan(self.folder, question())


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    with pytest.MonkeyPatch.context() as patch:
        return Done(tmp_path_factory.mktemp("augmented"), patch)


def test_a_search_draws_and_computes_each_view_once_and_a_plan_told_what_they_take(done: Done) -> None:
    """10 images to train on, their three views in a pass each; the plain 18 and their mirror images in one each."""
    assert done.decoded == 10, "the plain ones were decoded for the plan"
    assert done.passes == 1 + 3 + 1
    told = {(c.cut, c.augmentation): c for c in done.before.cuts}
    cuts = ("pooled", "conv5_block2")
    assert set(told) == {(c, a) for a in ("none", "light") for c in cuts} | {("image", "light")}
    assert {c.views for c in told.values() if c.augmentation == "light"} == {3}
    assert {c.state for c in told.values()} == {"missing"}
    assert {c.state for c in done.after.cuts} == {"cached"}
    features = {key: about["cut"] for key, about in entries(done.cache).items() if about["cut"] in cuts}
    header = 128  # of an .npy file
    sizes = [(done.cache / "features" / key / "features.npy").stat().st_size - header for key in features]
    assert sum(sizes) == sum(c.bytes for c in told.values() if c.cut != "image")
    assert told["image", "light"].bytes == 10 * 3 * 32 * 32 * 3
    assert done.before.estimate.cache >= sum(c.bytes for c in told.values())
    assert dict(done.before.estimate.phases)["features"] > 0 == dict(done.after.estimate.phases).get("features", 0)


def test_stopped_and_with_an_empty_cache_it_comes_to_the_same(
    done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TLSTUDY_CACHE", str(own_cache(tmp_path / "cache")))
    folder, stop, epochs = make(tmp_path / "study"), threading.Event(), list[Event]()

    def fitting(event: Event) -> None:
        if isinstance(event, TrialStarted) and event.configuration == "cuts_flip":
            stop.set()

    def searching(event: Event) -> None:
        epochs.extend([event] if isinstance(event, EpochEnded) and event.kind == "search" else [])
        if len(epochs) == 2:
            stop.set()

    for listen in (fitting, searching):
        with pytest.raises(Interrupted):
            search(folder, question(), listen, stop)
        stop.clear()
    shutil.rmtree(tmp_path / "cache")
    search(folder, question())
    assert facts(folder) == facts(done.folder)


def test_logistic_regression_is_fitted_to_the_views_too_and_the_tables_say_so(done: Done) -> None:
    results = Results.open(done.folder.database)
    table = results.configurations().set_index("id")
    found = table[table["kind"] == "logistic"].sort_values("number")
    assert found["number"].to_dict() == {
        "log": 0,
        "cuts": 1,
        "log_flip": 2,
        "cuts_flip": 3,
        "log_light": 4,
        "cuts_light": 5,
    }
    assert set(found["status"]) == {"completed"} and found["val_loss"].nunique() == 6
    assert [words.cell(row, "augmentation") for _, row in found.iterrows()] == ["-", "-", *["flip"] * 2, *["light"] * 2]
    told = words.configuration(results.hyperparameters("cuts_light"))
    assert told.startswith("frozen, logistic regression on several cuts, augmentation light: pooled")
    assert next(kind for kind in done.before.kinds if kind.name == "logistic").trials == 6


@pytest.mark.parametrize("numerics", [4, 5, 6])
def test_studies_that_began_before_have_no_regression_on_views(tmp_path: Path, numerics: int) -> None:
    """Nor have those that see plain images alone; a space that is widened adds its own and changes no number."""
    before = ["log", "cuts"][: 1 + (numerics > 4)]

    def regressions(*seen: str) -> dict[str, int]:
        asked = costless.QUESTION.override({"space.augmentation": list(seen)})
        with Store(tmp_path / f"{len(seen)}.db") as store:
            planned = costless.plan(store, asked, numerics).baseline
        return {trial.configuration: trial.number for trial in planned if trial.kind == "logistic"}

    assert list(regressions("none")) == before
    found, wider = regressions("none", "strong"), regressions("strong", "flip", "none")
    assert list(found) == [*before, *["log_strong", "cuts_strong"] * (numerics > 5)]
    assert len(wider) == 3 * len(before) if numerics > 5 else wider == found
    assert found.items() <= wider.items()


@given(images=st.integers(1, 3000), views=st.integers(1, 64), budget=st.floats(0, 100), folds=st.sampled_from([0, 5]))
def test_views_are_stored_at_a_cut_all_or_none_within_the_budget_and_where_plain_images_are(
    images: int, views: int, budget: float, folds: int
) -> None:
    asked = question(search__feature_budget_gb=budget, data__views=views, confirm__folds=folds)
    network = architecture(image_size=224)
    split = {"train": np.arange(images), "val": np.arange(images // 2 + 1), "test": np.arange(images % 2)}
    records = [SimpleNamespace(sha256="")] * (images + 1)
    data: Any = SimpleNamespace(indices=split.__getitem__, images=range(images * 2), records=records, key="")
    needed = {"pooled": 2, "conv5_block1": 1, "conv3_block1": 1, "image": 1}
    plain = bank.worth_storing(needed, 2 * 2 * images, network, budget * 1e9)  # mirror images too
    assert setup.needed_views(asked, network, data, ("none",), needed, plain).augmentations == ()
    found = setup.needed_views(asked, network, data, ("none", "flip", "light"), needed, plain)
    assert found.augmentations == ("light",) and "pooled" in found.cuts and set(found.cuts) <= set(plain)
    seen = sum(len(split[name]) for name in found.splits)
    # A fold trains on validation images, and so does the regression that a test set judges.
    assert found.splits == (("train", "val") if folds or len(split["test"]) else ("train",))
    assert sum(v.images for v in found.named(asked, data)) == seen * views
    taken = 2 * 2 * images * sum(map(network.bytes, plain)) + seen * views * sum(map(network.bytes, found.cuts))
    assert taken <= budget * 1e9 or found.cuts == ("pooled",)


def test_folds_train_on_views_of_validation_images_too(
    done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what was there is not made again."""
    shutil.copytree(done.cache, tmp_path / "cache")
    monkeypatch.setenv("TLSTUDY_CACHE", str(tmp_path / "cache"))
    folder = make(tmp_path / "study")
    small = {"space__unfrozen_layers": 0, "search__max_epochs": 1}
    events = search(folder, question(confirm__folds=2, confirm__repeats=1, **small))
    ended = [e.status for e in events if isinstance(e, TrialEnded) and e.kind == "fold"]
    assert len(ended) >= 2 and set(ended) == {"COMPLETED"}
    new = entries(tmp_path / "cache").keys() - entries(done.cache)
    made = [entries(tmp_path / "cache")[key] for key in new]
    assert sorted(about["view"] for about in made if about["cut"] == "pooled") == ["light 1", "light 2", "light 3"]
    assert {about["view"] for about in made} == {"light 1", "light 2", "light 3"}, "and their means at other cuts"


def entries(cache: Path) -> dict[str, Any]:
    """What the features' manifests say, by key."""
    artifacts = Artifacts(cache / "features")
    return {key: artifacts.about(key) for key in artifacts.listed()}


@pytest.mark.parametrize("refit", [False, True])
def test_the_model_of_an_augmented_winner_takes_plain_images_and_agrees(
    done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refit: bool
) -> None:
    monkeypatch.setenv("TLSTUDY_CACHE", str(done.cache))
    found = model_of(done.folder, tmp_path / "model.keras", refit=refit)
    with Store(done.folder.database, readonly=True) as store:
        kept = store.rows(f"SELECT hyperparameters FROM configurations WHERE id = '{found.configuration}'")
    assert json.loads(kept[0][0])["augmentation"] in ("light", "flip")
    assert np.allclose(found.model.predict(found.images, verbose=0), found.expected, atol=1e-5)


# ---- what the network saw ----


def test_the_sheet_shows_training_images_and_the_views_they_were_seen_as(
    done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TLSTUDY_CACHE", str(done.cache))
    results, asked = Results.open(done.folder.database), question()
    found = sheet(results)
    assert found.columns == ("plain", "light 1", "light 2", "light 3", "flip 1")
    assert [name for name, _ in found.rows] == ["cat", "cat", "dog", "dog"]
    data = setup.images(asked, done.folder)
    seen = views.drawn(data, "train", "light", asked.data, 0, done.cache)
    for (_, squares), row in zip(found.rows, (0, 3, 6, 9), strict=True):
        wanted = [data.images[row], *(v.squares[row] for v in seen), data.images[row][:, ::-1]]
        assert all(np.array_equal(ours, theirs) for ours, theirs in zip(squares, wanted, strict=True))
    monkeypatch.setattr(figures, "FIGURES", {"views": figures.views})
    drawn = figures.draw_all(results, tmp_path)
    assert {path.name for path in drawn.files} == {"views.png", "views.svg"}
    assert "What the network saw" in page(results, done.folder.root, figures=embedded(tmp_path))


def test_of_images_that_went_away_the_sheet_is_left_out_with_the_reason(done: Done, tmp_path: Path) -> None:
    shutil.copytree(done.folder.root, tmp_path / "study")
    results = Results.open(tmp_path / "study" / "study.db")
    image_file(next((tmp_path / "study/photos/train/cat").glob("00.jpg")), 99)
    assert len(sheet(results).rows) == 3
    shutil.rmtree(tmp_path / "study/photos")
    with pytest.raises(NotYet, match="no longer where the study read them"):
        sheet(results)


def test_of_plain_images_there_is_no_sheet_and_nobody_misses_it(
    finished: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = Results.open(finished.database)
    with pytest.raises(NotAsked, match="no augmentation is searched"):
        sheet(results)
    monkeypatch.setattr(figures, "FIGURES", {"views": figures.views})
    assert figures.draw_all(results, tmp_path) == figures.Drawn([], {})
