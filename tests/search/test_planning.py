"""A plan tells what a search then does, spends nothing, and the time left counts the confirmation."""

from __future__ import annotations

import json
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
from search.studies import make, own_cache, search, spec

from tuner.artifacts.entries import Artifacts
from tuner.backbones.architecture import architecture
from tuner.errors import Interrupted, RunError, StudyError
from tuner.features import bank
from tuner.search import draws, planning, setup
from tuner.search import space as spaces
from tuner.search.costs import FROZEN, HEAD_MULTIPLY_ADDS
from tuner.search.events import EpochEnded, Event, TrialEnded
from tuner.search.planning import Plan, plan
from tuner.search.work import Kind, Work
from tuner.spec.rules import NUMERICS
from tuner.spec.spec import Spec
from tuner.store.folder import StudyFolder
from tuner.store.store import Store


def held(folder: StudyFolder) -> dict[str, tuple[int, int, int]]:
    """Configurations, ended trials and epochs in the database, by kind."""
    query = (
        "SELECT kind, COUNT(DISTINCT c.id), COUNT(DISTINCT t.id), COUNT(DISTINCT e.configuration || ' ' || e.epoch) "
        "FROM configurations c JOIN trials t ON t.configuration = c.id LEFT JOIN epochs e ON e.configuration = c.id "
        "WHERE t.status <> 'RUNNING' GROUP BY kind"
    )
    with Store(folder.database, readonly=True) as store:
        return {str(r[0]): (r[1], r[2], r[3]) for r in store.rows(query)}


def kinds(found: Plan) -> dict[str, Kind]:
    return {kind.name: kind for kind in found.kinds}


@dataclass(frozen=True)
class Done:
    """A search in a cache of its own, planned before, in its middle, and after."""

    folder: StudyFolder
    cache: Path
    before: Plan
    listed: tuple[list[Path], list[Path]]  # the study's folder ahead of the first plan, and after it
    middle: Plan
    trained: int  # epochs from the middle on, the confirmation's not counted
    events: list[Event]
    after: Plan


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    root = tmp_path_factory.mktemp("planned")
    folder, stop, events = make(root / "study"), threading.Event(), list[Event]()

    def listen(event: Event) -> None:
        events.append(event)
        if sum(isinstance(e, TrialEnded) for e in events) == 12:
            stop.set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TLSTUDY_CACHE", str(own_cache(root / "cache")))
        listed = sorted(folder.root.rglob("*"))
        before = plan(folder, spec())
        both = (listed, sorted(folder.root.rglob("*")))
        with pytest.raises(Interrupted):
            search(folder, on=listen, stop=stop)
        middle = plan(folder, spec())
        rest = search(folder)
        trained = [e for e in rest if isinstance(e, EpochEnded) and e.kind != "seed"]
        return Done(folder, root / "cache", before, both, middle, len(trained), [*events, *rest], plan(folder, spec()))


def test_a_plan_counts_what_the_search_then_holds(done: Done) -> None:
    found = held(done.folder)
    for kind in ("reference", "baseline", "logistic", "search"):
        planned = kinds(done.before)[kind]
        assert (planned.configurations, planned.trials, planned.epochs) == found[kind]
        assert (planned.trials_done, planned.epochs_done) == (0, 0)
    confirm = kinds(done.before)["confirm"]
    assert (confirm.trials, confirm.epochs) == (6, 18), "two seeds of three sides for all epochs, at most"
    assert found["seed"][1] <= confirm.trials and found["seed"][2] <= confirm.epochs
    with Store(done.folder.database, readonly=True) as store:
        brackets = [(b["iteration"], b["bracket"], b["sizes"], b["epochs"]) for b in store.meta("plan")]
    told = [(r.bracket.iteration, r.bracket.bracket, r.bracket.sizes, r.bracket.epochs) for r in done.before.rungs]
    assert [(i, b, tuple(s), tuple(e)) for i, b, s, e in brackets] == told


def test_the_configurations_that_will_be_drawn_are_known_before(done: Done) -> None:
    question = spec()
    s, space = question.search, spaces.build(question, architecture(image_size=32))
    brackets = draws.brackets(space, max_epochs=s.max_epochs, factor=s.factor, iterations=1)
    foreseen: dict[tuple[int, int], list[dict[str, float]]] = {}
    for d in draws.draw(space, brackets, seed=s.seed):
        foreseen.setdefault((d.iteration, d.bracket), []).append(d.values.to_dict())
    query = (
        "SELECT iteration, bracket, hyperparameters FROM trials t JOIN configurations c ON c.id = configuration "
        "WHERE rung = 0 ORDER BY position"
    )
    found: dict[tuple[int, int], list[dict[str, float]]] = {}
    with Store(done.folder.database, readonly=True) as store:
        for iteration, bracket, values in store.rows(query):
            found.setdefault((iteration, bracket), []).append(json.loads(values))
    assert foreseen == found


def test_a_plan_writes_nothing_into_the_study(done: Done) -> None:
    assert done.listed[0] == done.listed[1]
    assert not done.before.begun and not done.folder.spec.exists()


def test_the_features_take_what_was_told(done: Done) -> None:
    assert {cut.cut: cut.depths for cut in done.before.cuts} == {"pooled": (0,), "conv5_block2": (4,)}
    assert {cut.state for cut in done.before.cuts} == {"missing"}
    assert {cut.state for cut in done.after.cuts} == {"cached"}
    files = [path.stat().st_size for path in done.cache.glob("features/*/features.npy")]
    header = 128  # of an .npy file
    assert sum(size - header for size in files) == done.before.estimate.cache, "the means at other cuts besides"
    assert {cut.bytes for cut in done.before.cuts} <= {size - header for size in files}


def work(folder: StudyFolder, room: Path, question: Spec) -> Work:
    """Of this study's images, for a study not begun."""
    dataset = setup.images(question, folder)
    with Store(room / f"{question.search.tta}.db") as store:
        weights, _ = planning._weights(folder, question, store, dataset)
        return Work(question, dataset, store, weights, NUMERICS, True)


def test_where_only_means_are_missing_their_passes_and_bytes_are_foretold(
    done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the images to the highest cut whose features are not stored either."""
    shutil.copytree(done.cache, tmp_path / "cache")
    monkeypatch.setenv("TLSTUDY_CACHE", str(tmp_path / "cache"))
    artifacts, lost = Artifacts(tmp_path / "cache" / "features"), 0
    for key in artifacts.listed():
        if str(artifacts.about(key)["cut"]).endswith(bank.MEAN):
            lost += (artifacts.folder / key / bank.NAME).stat().st_size - 128  # the header of an .npy file
            shutil.rmtree(artifacts.folder / key)
    found = work(done.folder, tmp_path, spec())
    assert found.missing == (bank.names((), found.means),)
    assert found.to_write() == lost > 0
    images = len(found.dataset.images)
    assert 0.8 * images < found.passes() < images, "conv5_block2's own is made of what is stored there"


def test_mirror_images_are_counted(done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a study that predicts them too, of photographs whose plain features are stored already."""
    monkeypatch.setenv("TLSTUDY_CACHE", str(done.cache))
    plain, both = (work(done.folder, tmp_path, spec(search__tta=tta)) for tta in ("none", "flip"))
    assert plain.missing == ((),) and both.missing == ((), bank.names(plain.wanted, plain.means)) and plain.wanted
    assert plain.passes() == 0 and both.passes() == len(both.dataset.images)
    assert {cut.state for cut in both.cuts()} == {"missing"}
    assert [cut.bytes for cut in both.cuts()] == [2 * cut.bytes for cut in plain.cuts()]
    for place in (FROZEN, ("conv5_block2", 4)):
        each = plain.network.step_macs(*place, "frozen")[1] + HEAD_MULTIPLY_ADDS
        assert both.cost.work(place) - plain.cost.work(place) == 8 * each


def test_a_plan_of_a_study_that_was_begun_counts_the_rest(done: Done) -> None:
    searched = [kind for kind in done.middle.kinds if kind.name != "confirm"]
    assert 0 < sum(kind.epochs_done for kind in searched) < sum(kind.epochs for kind in searched)
    assert sum(kind.epochs - kind.epochs_done for kind in searched) == done.trained
    assert kinds(done.middle)["baseline"].trials_done == 8
    assert sum(map(sum, (r.done for r in done.middle.rungs))) == kinds(done.middle)["search"].trials_done > 0
    assert dict(done.middle.estimate.phases)["baseline"] == 0
    assert dict(done.middle.estimate.phases)["search"] > 0


def test_every_phase_of_a_new_study_takes_time_memory_and_disk(done: Done) -> None:
    found = done.before.estimate
    phases = dict(found.phases)
    assert list(phases) == ["start", "features", "baseline", "search", "confirm"]
    assert all(seconds > 0 for seconds in phases.values())
    assert found.total == pytest.approx(sum(phases.values()))
    assert 0 < found.low <= phases["confirm"] <= found.high
    assert found.memory > 2e8 and found.folder > 0


def test_of_a_finished_study_nothing_is_left(done: Done) -> None:
    assert done.after.finished and done.after.estimate.total == 0
    assert all(kind.trials == kind.trials_done for kind in done.after.kinds)
    assert kinds(done.after)["confirm"].epochs_done == kinds(done.after)["confirm"].epochs


def test_what_a_search_writes_meanwhile_does_not_tear_a_plan(done: Done, tmp_path: Path) -> None:
    shutil.copytree(done.folder.root, tmp_path / "study")
    folder = StudyFolder(tmp_path / "study")

    def count(store: Store) -> int:
        return int(store.rows("SELECT COUNT(*) FROM epochs")[0][0])

    with planning._database(folder, tmp_path) as plans, Store(folder.database) as searches:
        before = count(plans)
        searches.write("DELETE FROM epochs WHERE epoch = 1")
        assert count(plans) == before > count(searches)


def test_without_the_confirmation_it_is_not_counted(done: Done, tmp_path: Path) -> None:
    shutil.copytree(done.folder.root, tmp_path / "study")
    found = plan(StudyFolder(tmp_path / "study"), spec(), confirm=False)
    assert found.finished and "confirm" not in kinds(found)


def test_another_question_is_refused(done: Done) -> None:
    with pytest.raises(StudyError, match="search.max_epochs: 3 -> 4"):
        plan(done.folder, spec(search__max_epochs=4))


def test_other_weights_are_refused_as_by_a_search(done: Done, tmp_path: Path) -> None:
    shutil.copytree(done.folder.root, tmp_path / "study")
    folder = StudyFolder(tmp_path / "study")
    with Store(folder.database) as store:
        store.set_meta(weights_key=store.meta("weights_key") + "0")
    with pytest.raises(StudyError, match="made with other weights"):
        plan(folder, spec())


def test_out_of_memory_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("tuner.search.probe.run", full)
    with pytest.raises(RunError, match=r"Memory ran out while this machine was tried .* smaller data.image_size"):
        plan(make(tmp_path / "study"), spec())


def test_a_space_smaller_than_the_first_rung_is_said(tmp_path: Path) -> None:
    question = spec(space__learning_rate=1e-3, space__dropout=0.0, space__unfrozen_layers=[0, 3])
    found = plan(make(tmp_path / "study"), question, confirm=False)
    assert any("The space has 2 configurations, Hyperband would draw 5" in notice for notice in found.notices)
    assert any("unfrozen_layers 3 trains the same variables as 0" in notice for notice in found.notices)
    assert kinds(found)["search"].configurations == 2


# ---- the display's time left ----


def test_the_time_left_counts_the_confirmation_and_falls_to_nothing(done: Done) -> None:
    ended = [e for e in done.events if isinstance(e, TrialEnded)]
    last = max(i for i, e in enumerate(ended) if e.kind == "search")
    assert ended[-1].kind == "seed" and last < len(ended) - 1
    left = [e.seconds_left for e in ended[last:]]
    assert None not in left
    assert all((before or 0) > 0 for before in left[:-1]) and left[-1] == 0


def test_without_a_confirmation_the_time_left_ends_with_the_search(tmp_path: Path) -> None:
    question = spec(search__max_epochs=1, search__factor=2, space__unfrozen_layers=0)
    events = search(make(tmp_path / "study"), question, confirm=False)
    ended = [e for e in events if isinstance(e, TrialEnded)]
    assert ended[-1].kind == "search" and ended[-1].seconds_left == 0
