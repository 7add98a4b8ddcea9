"""The confirmation: seeds that train as the search did and are kept, folds that leak nothing, openings counted."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults import costless
from hypothesis import given
from hypothesis import strategies as st
from image_files import folder as image_folder
from image_files import image_file
from search.studies import facts, make, own_cache, search, spec

from tuner.errors import DataError, UsageError
from tuner.evidence.results import Results
from tuner.images.checks import check_folds
from tuner.images.folds import cross_validation, stratified_folds
from tuner.search.events import TrialStarted
from tuner.store import held_out
from tuner.store.folder import StudyFolder
from tuner.store.store import Store
from tuner.training.subset import Subset


def rows(folder: StudyFolder, query: str, *values: Any) -> list[tuple[Any, ...]]:
    with Store(folder.database, readonly=True) as store:
        return [tuple(r) for r in store.rows(query, *values)]


SEALED = spec(confirm__folds=2, confirm__repeats=1, search__tta="flip")


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """A finished study with two test photographs a class, two folds and mirror images. Look, don't touch."""
    folder = make(tmp_path_factory.mktemp("sealed") / "study", test=2)
    search(folder, SEALED)
    return folder


def test_the_number_of_fresh_seeds_stays_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when another version counts the work of one otherwise and would take more or fewer today."""
    folder = make(tmp_path / "study")
    question = spec(confirm__seeds="auto", space__unfrozen_layers=0, search__max_epochs=1, search__factor=2)
    search(folder, question)
    before = facts(folder)
    with Store(folder.database, readonly=True) as store:
        assert store.meta("confirmation")["seeds"] == 10
    monkeypatch.setattr("tuner.search.costs.CHEAP", 0.0)
    search(folder, question)
    assert facts(folder) == before


def test_each_seed_trains_as_the_search_did_and_chooses_its_own_epoch(sealed: StudyFolder) -> None:
    results = Results.open(sealed.database)
    winner, baselines = results.winner(), results.baselines()
    assert winner is not None and len(baselines) == 2
    with Store(sealed.database, readonly=True) as store:
        plan = store.meta("confirmation")
    roles = {side["name"]: side["source"] for side in plan["sides"]}
    assert roles.pop("unfrozen", None) is None or winner["unfrozen_layers"] == 0
    assert roles == {"winner": winner["id"], "baseline": baselines[0]["id"], "other baseline": baselines[1]["id"]}
    table = results.configurations().set_index("id")
    for side in plan["sides"]:
        query = "SELECT configuration FROM confirmations WHERE source = ? AND fold < 0"
        again = [id for (id,) in rows(sealed, query, side["source"])]
        assert len(again) == (1 if side["kind"] == "logistic" else plan["seeds"])
        for id in again if side["kind"] != "logistic" else ():
            losses = rows(sealed, "SELECT epoch, val_loss FROM epochs WHERE configuration = ? ORDER BY epoch", id)
            assert [epoch for epoch, _ in losses] == [1, 2, 3]
            assert rows(sealed, "SELECT epoch FROM predictions WHERE configuration = ?", id) == [
                (table.loc[id, "best_epoch"],)
            ]
            values = "SELECT hyperparameters FROM configurations WHERE id = ?"
            assert rows(sealed, values, id) == rows(sealed, values, side["source"])


def test_regression_is_fitted_to_the_validation_images_too_before_the_test(sealed: StudyFolder) -> None:
    """It has no epoch to choose by them; what it then says of them is shown nowhere as a validation figure."""
    query = "SELECT id, images, val_loss FROM configurations JOIN epochs ON id = configuration WHERE id LIKE ?"
    for kind in ("cuts-s%", "log-s%"):
        assert all(row[1:] == (18, None) for row in rows(sealed, query, kind))
    assert len(rows(sealed, query, "cuts-s%") + rows(sealed, query, "log-s%")) == 1


def test_the_median_seed_by_the_validation_images_is_the_model_that_is_exported(sealed: StudyFolder) -> None:
    results = Results.open(sealed.database)
    for baseline in (False, True):
        source = results.baseline() if baseline else results.winner()
        assert source is not None
        id = results.exported(baseline=baseline)
        assert id is not None and id.startswith(f"{source['id']}-s")
        table = results.configurations()
        seeds = table[table["id"].str.startswith(f"{source['id']}-s")]
        if source["kind"] != "logistic":
            assert sorted(seeds["val_loss"])[len(seeds) // 2] == seeds.set_index("id").loc[id, "val_loss"]
        kept = rows(sealed, "SELECT file FROM checkpoints WHERE configuration = ?", id)
        assert [(sealed.checkpoints / file).is_file() for (file,) in kept] == [True]
        found = results.tested(id)
        assert found is not None and found.n == 4


def test_seeds_are_added_to_those_that_are_there(sealed: StudyFolder, tmp_path: Path) -> None:
    """Nothing is trained twice, the test set is opened once more and that is said; fewer are not taken away."""
    folder = StudyFolder(tmp_path / "study")
    shutil.copytree(sealed.root, folder.root)
    before = facts(folder)
    more = SEALED.override({"confirm.seeds": 4})
    events = search(folder, more, search=False)
    begun = [e.configuration for e in events if isinstance(e, TrialStarted)]
    assert begun and all(re.fullmatch(r"[bc]\d+-s0[34]", id) for id in begun)
    after = facts(folder)
    assert {row[0] for row in before["epochs"]} < {row[0] for row in after["epochs"]}
    assert [row for row in after["epochs"] if row[0] not in begun] == before["epochs"]
    found = Results.open(folder.database).findings()
    assert found.seeds == 4 and found.openings == 2
    assert any("opened 2 times: each further look makes it less of a test" in line for line in found.evidence)
    assert not [e for e in search(folder, SEALED) if isinstance(e, TrialStarted)]
    assert facts(folder) == after and Results.open(folder.database).findings().seeds == 4


def test_openings_are_counted_across_studies_of_the_same_test_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TLSTUDY_CACHE", str(own_cache(tmp_path / "cache")))
    few = spec(**FEW)
    for number in range(2):
        folder = make(tmp_path / f"study{number}", test=2)
        search(folder, few)
        found = Results.open(folder.database).findings()
        assert (found.openings, found.openings_elsewhere) == (1, number)
    search(folder, few, fresh=True)
    found = Results.open(folder.database).findings()
    assert (found.openings, found.openings_elsewhere) == (1, 2)
    assert any("and 2 times before by other searches on this machine" in line for line in found.evidence)


def test_of_a_frozen_winner_the_best_unfrozen_configuration_is_confirmed_too(tmp_path: Path) -> None:
    """Whichever of the two wins, something is said of unfreezing."""
    folder = make(tmp_path / "study", test=2)
    question = spec(**FEW).override({"space.unfrozen_layers": [0, 10], "search.max_epochs": 2})
    search(folder, question, confirm=False)
    table = Results.open(folder.database).ranking()
    frozen = table[table["full"] & (table["unfrozen_layers"] == 0)]["id"].iloc[-1]
    assert (table["full"] & (table["unfrozen_layers"] == 10)).any()
    with Store(folder.database) as store:
        store.write("UPDATE epochs SET val_loss = 0.0001, val_accuracy = 1.0 WHERE configuration = ?", frozen)
        store.write("DELETE FROM predictions WHERE configuration = ?", frozen)  # they would say otherwise
    search(folder, question, search=False)
    found = Results.open(folder.database).findings()
    assert found.winner is not None and not found.winner.unfrozen_layers
    assert found.unfrozen is not None and found.unfrozen.unfrozen_layers == 10 and found.unfrozen.accuracies
    assert found.compared_unfrozen is not None
    assert any("The best configuration with unfrozen layers, c" in line for line in found.evidence)


def test_fresh_seeds_are_fresh(finished: StudyFolder) -> None:
    """No two trainings of a side begin alike, and none as the search's own did."""
    with Store(finished.database, readonly=True) as store:
        source = next(s for s in store.meta("confirmation")["sides"] if s["kind"] != "logistic")["source"]
    ids = [source, *(f"{source}-s{i:02d}" for i in (1, 2))]
    losses = [rows(finished, "SELECT loss FROM epochs WHERE configuration = ? AND epoch = 1", id)[0] for id in ids]
    assert len(set(losses)) == 3


def test_without_a_test_set_it_is_exploratory_and_nothing_is_opened(finished: StudyFolder) -> None:
    found = Results.open(finished.database).findings()
    assert found.exploratory and found.ground == "validation" and found.openings == 0
    assert found.images == 8 and found.seeds == 2
    assert "exploratory and not a test" in found.sentence
    assert rows(finished, "SELECT 1 FROM held_out") == []
    kinds = Counter(rows(finished, "SELECT kind FROM checkpoints JOIN configurations ON id = configuration"))
    assert ("fold",) not in kinds and kinds[("seed",)] >= 2


def test_the_test_set_is_sealed_before_and_opened_once(sealed: StudyFolder) -> None:
    with Store(sealed.database, readonly=True) as store:
        seal, openings = store.meta("test_seal"), store.rows("SELECT * FROM openings")
        test = store.rows("SELECT number, sha256, label FROM images WHERE split = 'test' ORDER BY number")
        assert seal == held_out.seal([dict(r) for r in test]) != ""
        assert [(o["id"], o["seal"]) for o in openings] == [(1, seal)]
        numbers = [r["number"] for r in test]
        seeds = store.rows("SELECT h.* FROM held_out h JOIN confirmations s USING (configuration) WHERE fold < 0")
        assert seeds and all(json.loads(r["images"]) == numbers and r["opening"] == 1 for r in seeds)
    found = Results.open(sealed.database).findings()
    assert not found.exploratory and found.openings == 1 and found.images == 4
    assert found.folds is not None and found.folds_made == "2 folds, 1 times"
    assert [p.name for p in sealed.checkpoints.iterdir() if "-r1" in p.name] == []


def test_no_trial_saw_a_test_photograph(sealed: StudyFolder) -> None:
    """Neither trained nor validated: an epoch counts training and validation photographs, 18 of the 22."""
    query = "SELECT DISTINCT images FROM epochs JOIN configurations ON id = configuration WHERE kind <> 'fold'"
    assert rows(sealed, query) == [(18,)]


def test_a_second_session_opens_and_trains_nothing(sealed: StudyFolder, tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "study")
    shutil.copytree(sealed.root, folder.root)
    events = search(folder, SEALED)
    assert not [e for e in events if isinstance(e, TrialStarted)]
    assert facts(folder) == facts(sealed)


def test_confirmed_later_is_confirmed_at_once(sealed: StudyFolder, tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "study")
    shutil.copytree(sealed.root / "photos", folder.root / "photos")
    question = SEALED
    with pytest.raises(UsageError, match="trials of the search have not ended; a winner is confirmed when all have"):
        search(folder, question, search=False)
    search(folder, question, confirm=False)
    assert Results.open(folder.database).findings().kind == "open"
    assert rows(folder, "SELECT 1 FROM confirmations") == []
    search(folder, question, search=False)
    assert facts(folder) == facts(sealed)


def test_lost_weights_of_a_seed_are_trained_again_before_the_opening(sealed: StudyFolder, tmp_path: Path) -> None:
    """Stopped between the last seed and the opening, and its checkpoint damaged meanwhile."""
    folder = StudyFolder(tmp_path / "study")
    shutil.copytree(sealed.root / "photos", folder.root / "photos")
    question = SEALED

    def fail(*_: Any) -> int:
        raise RuntimeError("stopped here")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(held_out, "open_test", fail)
        with pytest.raises(RuntimeError, match="stopped here"):
            search(folder, question)
    kept = sorted(folder.checkpoints.glob("*-s01-best-*"))
    assert kept and rows(folder, "SELECT 1 FROM openings") == []
    kept[0].write_bytes(b"damaged")
    search(folder, question)
    assert facts(folder) == facts(sealed)


# ---- folds ----

LABELS = st.lists(st.integers(0, 2), min_size=6, max_size=40).filter(lambda found: len(set(found)) == 3)


@given(LABELS, st.integers(2, 6), st.randoms(use_true_random=False))
def test_folds_are_stratified_and_keep_groups_together(labels: list[int], folds: int, draw: Any) -> None:
    y = np.array(labels)
    groups = np.array([draw.randrange(len(labels)) for _ in labels])
    found = stratified_folds(y, groups, folds, 0, "test")
    assert found.min() == 0 and found.max() < folds
    for group in set(groups.tolist()):
        assert len(set(found[groups == group].tolist())) == 1
    alone = stratified_folds(y, None, folds, 0, "test")
    for label in set(labels):
        each = np.bincount(alone[y == label], minlength=int(alone.max()) + 1)
        assert each.max() - each.min() <= 1


def test_each_image_is_left_out_once_and_never_trained_on_where_it_is(tmp_path: Path) -> None:
    labels = np.arange(40) % 2
    whole = replace(costless.context(tmp_path), labels=labels, train=np.arange(30), validation=np.arange(30, 40))
    whole.groups = np.arange(40) // 2 * 2
    left_out: list[int] = []
    for fold in range(5):
        inner = whole.rows(Subset("fold", 5, 0, fold))
        out = inner.held_out
        parts = [set(p.tolist()) for p in (inner.train, inner.validation, out)]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 40
        groups = [{int(whole.groups[i]) for i in p} for p in parts]
        assert not (groups[0] & groups[2] or groups[1] & groups[2] or groups[0] & groups[1])
        left_out += out.tolist()
    assert sorted(left_out) == list(range(40))


FEW: dict[str, Any] = {
    "space__unfrozen_layers": 0,
    "space__head_width": 0,
    "space__dropout": 0.0,
    "search__max_epochs": 1,
    "search__factor": 2,
    "confirm__seeds": 1,
    "confirm__repeats": 2,
}


def with_cows(root: Path, seeds: tuple[int, int, int]) -> StudyFolder:
    """A study whose third class has two images to train on and one to validate; equal seeds look the same."""
    folder = make(root)
    image_folder(folder.root / "photos", train=2, val=1, classes=("cow",))
    for size, (seed, path) in enumerate(zip(seeds, sorted((folder.root / "photos").glob("*/cow/*")), strict=True)):
        image_file(path, seed, width=48 + size)
    return folder


@pytest.mark.parametrize("balanced", ["none", "balanced"])
def test_a_class_of_three_images_is_cross_validated(tmp_path: Path, balanced: str) -> None:
    folder = with_cows(tmp_path / "study", (901, 902, 903))
    search(folder, spec(**FEW, confirm__folds=2, search__class_weight=balanced))
    query = "SELECT status, COUNT(*) FROM trials JOIN configurations c ON c.id = configuration WHERE kind = 'fold'"
    assert rows(folder, query + " GROUP BY status") == [("COMPLETED", 2 * 2 * 2)]


def test_folds_that_cannot_be_made_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    folder = with_cows(tmp_path / "study", (901, 901, 901))
    with pytest.raises(DataError, match=r"confirm.folds: found 2, but class cow has 1 images to train and validate"):
        search(folder, spec(**FEW, confirm__folds=2))
    assert not folder.has_results


def test_where_two_folds_cannot_be_made_and_three_can_that_is_said() -> None:
    labels = np.array([0] * 3 + [1] * 3)
    with pytest.raises(DataError, match=r"cat has 3 images.* Add images, set confirm.folds = 3, or set confirm.folds"):
        check_folds(labels, None, np.array([0, 1, 3, 4]), np.array([2, 5]), ("cat", "cow"), folds=2, repeats=2, seed=0)


def test_fewer_folds_than_asked_are_said() -> None:
    labels = np.array([0] * 9 + [1] * 3)
    said = check_folds(labels, None, np.arange(1, 12), np.array([0]), ("cat", "cow"), folds=5, repeats=2, seed=0)
    assert said == [
        "confirm.folds: 3 folds instead of 5, as class cow has 3 images to train and validate on (those that look the "
        "same count once)."
    ]


@given(LABELS, st.integers(2, 6), st.integers(1, 12), st.randoms(use_true_random=False))
def test_every_fold_trains_every_class_or_there_are_none(labels: list[int], folds: int, held: int, draw: Any) -> None:
    y = np.array(labels)
    groups = np.array([draw.randrange(len(labels)) for _ in labels])
    order = np.array(draw.sample(range(len(y)), len(y)))
    validation = order[: min(held, len(y) - 1)]
    train = order[len(validation) :]
    for alike in (None, groups):
        found = cross_validation(y, alike, train, validation, folds=folds, seed=0, repeat=0)
        for fold in found:
            parts = [set(part.tolist()) for part in (fold.train, fold.validation, fold.out)]
            assert all(parts) and sum(map(len, parts)) == len(set.union(*parts)) == len(y)
            assert set(y[fold.train]) == set(labels)
            if alike is not None:
                together = [{int(alike[i]) for i in part} for part in parts]
                assert not (together[0] & together[1] or together[0] & together[2] or together[1] & together[2])
        assert sorted(i for fold in found for i in fold.out.tolist()) == (list(range(len(y))) if found else [])
    smallest = min(labels.count(label) for label in set(labels))
    alone = cross_validation(y, None, train, validation, folds=folds, seed=0, repeat=0)
    # Where all classes have three, one of two folds may leave one image each: nothing to choose the epoch by.
    assert len(alone) == min(folds, smallest) or smallest < 3 or (smallest, folds) == (3, 2)
