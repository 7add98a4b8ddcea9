"""What runs next is a function of what the store holds: any number of workers, any order, any loss, the same table."""

from __future__ import annotations

import pickle
import tempfile
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults import costless
from hypothesis import Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from made_study import FINISHED, INTERRUPTED, MANY, SIX_CLASSES, UNTRAINED, Made, make_study
from search.scheduling import end, planning, played
from search.slots import Slots
from search.studies import facts as held

from tuner.evidence.results import Results
from tuner.search import facts as known
from tuner.search import schedule
from tuner.search.facts import Facts
from tuner.search.plan import Plan, Trial
from tuner.spec.configuration import Configuration
from tuner.spec.seeds import generator
from tuner.spec.spec import ConfirmSpec
from tuner.store import ids, tables
from tuner.store.folder import StudyFolder
from tuner.store.ranking import Rule, place
from tuner.store.store import Confirmation, Draw, EpochRow, Saved, Store
from tuner.training.subset import Subset
from tuner.training.trial import TrialSpec

# ---- promotion ----


def searched(trials: list[Trial]) -> dict[tuple[int | None, int | None, int | None], list[Trial]]:
    found: dict[tuple[int | None, int | None, int | None], list[Trial]] = {}
    for t in trials:
        if t.kind == "search":
            found.setdefault((t.iteration, t.bracket, t.rung), []).append(t)
    return found


@given(
    pair=st.sampled_from([(9, 3), (27, 3), (10, 4), (8, 2)]),
    failing=st.sets(st.integers(0, 40), max_size=20),
    salt=st.integers(0, 1000),
    ties=st.sampled_from([3, 1000]),
    checkpoint=st.sampled_from(["best", "last"]),
)
@hypothesis_settings(max_examples=40)
def test_the_best_of_a_complete_rung_are_promoted_and_failed_ones_rank_last(
    pair: tuple[int, int], failing: set[int], salt: int, ties: int, checkpoint: str
) -> None:
    plan = planning(*pair, rule=Rule(checkpoint=checkpoint))
    facts = Facts(plan.rule)
    trials: list[Trial] = []
    while ready := schedule.ready(plan, facts):
        trials.append(ready[0])
        end(plan, facts, ready[0], len(trials) in failing and ready[0].kind == "search", salt, ties)
    by_rung = searched(trials)
    for bracket in plan.brackets:
        for rung, size in enumerate(bracket.sizes):
            here = by_rung.get((bracket.iteration, bracket.bracket, rung), [])
            if rung == 0:
                assert [t.number for t in here] == [d.number for d in plan.drawn(bracket)], "drawn order"
                continue
            below = by_rung.get((bracket.iteration, bracket.bracket, rung - 1), [])
            order = [
                (facts.outcomes[t.key].rank, i, t.configuration)
                for i, t in enumerate(below)
                if facts.outcomes[t.key].status == "COMPLETED"
            ]
            assert [t.configuration for t in here] == [name for _, _, name in sorted(order)[:size]]
            assert all(t.values == next(b.values for b in below if b.configuration == t.configuration) for t in here)
    assert schedule.stage(plan, facts) is None and schedule.unfinished(plan, facts) == 0


@given(
    pair=st.sampled_from([(9, 3), (8, 2), (27, 3)]),
    failing=st.sets(st.integers(0, 40), max_size=12),
    salt=st.integers(0, 1000),
    workers=st.integers(1, 5),
    checkpoint=st.sampled_from(["best", "last"]),
)
@hypothesis_settings(max_examples=40)
def test_a_checkpoint_that_is_let_go_is_never_needed_again(
    pair: tuple[int, int], failing: set[int], salt: int, workers: int, checkpoint: str
) -> None:
    """One worker or several, scores with many ties; and what runs is what one worker runs."""
    plan, turn = planning(*pair, rule=Rule(checkpoint=checkpoint)), generator(salt, "turns")
    facts = Facts(plan.rule)
    bad = {f"c{n:03d}" for n in failing}
    running: dict[tuple[str, int], Trial] = {}
    trained = set()
    while True:
        ready = schedule.ready(plan, facts, running)
        if ready and len(running) < workers:
            trial = ready[0]
            if trial.rung:
                assert (trial.configuration, "last") in facts.checkpoints, "promoted from a state that was let go"
            running[trial.key] = trial
            continue
        if not running:
            break
        trial = running.pop(list(running)[int(turn.integers(len(running)))])
        end(plan, facts, trial, trial.configuration in bad and trial.rung == len(bad) % 2, salt, ties=4)
        trained.add(trial.key)
        needed = schedule.needed(plan, facts, running)
        facts.checkpoints = {key: saved for key, saved in facts.checkpoints.items() if key in needed}
    assert not [key for key in facts.checkpoints if key[1] == "last"], "when all is done no state is kept"
    alone = played(plan, lambda t: t.configuration in bad and t.rung == len(bad) % 2, salt, ties=4)
    assert trained == {t.key for t in alone}


# ---- the real driver, several workers ----

FINITE = costless.QUESTION.override(
    {"space.learning_rate": [0.03, 0.01], "space.head_width": [0, 8], "space.unfrozen_layers": [0, 10]}
)
QUESTIONS = {
    "endless": costless.QUESTION,
    "finite": FINITE,
    "last epochs": costless.QUESTION.override({"search.checkpoint": "last"}),
    "last epochs by AUC": FINITE.override({"search.checkpoint": "last", "search.objective": "val_auc"}),
    "best by Brier": costless.QUESTION.override({"search.objective": "val_brier"}),
}
ALONE: dict[tuple[str, frozenset[str]], dict[str, Any]] = {}


def fail_in(configurations: frozenset[str]) -> Any:
    """Makes those configurations fail in their second epoch, deterministically."""
    original = costless.Costless.seed_dropout

    def failing(self: costless.Costless, *names: int | str) -> None:
        original(self, *names)
        if names[1] in configurations and names[-1] == 2:
            raise ValueError("made to fail")

    return failing


def result(question: str, failing: frozenset[str], executor: Any = None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(costless.Costless, "seed_dropout", fail_in(failing))
        options = {} if executor is None else {"executor": executor}
        costless.run(Path(folder) / "study", question=QUESTIONS[question], **options)
        found = held(StudyFolder(Path(folder) / "study"))
        found["files"] = sorted(p.name for p in (Path(folder) / "study" / "checkpoints").iterdir())
        return found


@pytest.mark.parametrize("question", QUESTIONS)
@given(
    failing=st.sampled_from([frozenset({"c000", "b01"}), frozenset({"c002", "ref"}), frozenset({"c005"})]),
    workers=st.integers(2, 6),
    seed=st.integers(0, 10_000),
    losing=st.sampled_from([0.0, 0.15]),
)
@hypothesis_settings(max_examples=4, phases=[Phase.generate])  # a smaller example says no more here
def test_workers_in_any_order_with_any_loss_give_the_table_of_one(
    question: str, failing: frozenset[str], workers: int, seed: int, losing: float
) -> None:
    """Configurations, trials, epochs, predictions, checkpoints, seeds, folds, the test set: all that is a result."""
    if (question, failing) not in ALONE:
        ALONE[question, failing] = result(question, failing)
    made: list[Slots] = []

    def several(context: Any, should_stop: Any) -> Slots:
        folder = context.checkpoints.parent
        contexts = [costless.context(folder, question=QUESTIONS[question]) for _ in range(workers)]
        made.append(Slots(contexts, np.random.default_rng(seed), losing))
        return made[0]

    assert result(question, failing, several) == ALONE[question, failing]
    again = sum(n - 1 for n in made[0].trained.values())
    assert again <= 4 * made[0].lost, "an epoch is trained once, unless its worker was lost"


def test_a_trial_is_data() -> None:
    """It can be sent to another process, and two that are equal are the same trial."""
    saved = Saved("last", 3, "c001-last-00003.npz", 12, "00")
    row = EpochRow(2, 0.6, 0.5, 0.7, 0.5, 1.0, 9)
    spec = TrialSpec(
        "c001-rung1", "c001", Configuration(learning_rate=1e-3), 9, Subset("fold", 3, 1, 2), saved, saved, row
    )
    assert pickle.loads(pickle.dumps(spec)) == spec and hash(spec) == hash(pickle.loads(pickle.dumps(spec)))
    with pytest.raises(FrozenInstanceError):
        spec.last_epoch = 10  # type: ignore[misc]


# ---- who leads ----

VARIANTS = {"finished": FINISHED, "many": MANY, "six": SIX_CLASSES, "untrained": UNTRAINED, "cut off": INTERRUPTED}
VARIANTS["patient"] = replace(MANY, patience=1)


def agree(database: Path, kind: str) -> None:
    results = Results.open(database)
    search = results.study.spec.search
    with Store(database, readonly=True) as store:
        rows = tables.rows(store, tables.Configuration)
        trials = tables.rows(store, tables.Trial)
        facts = known.read(store, results.study.rule)
        brackets = store.brackets()
    at = {t.configuration: (t.iteration, t.bracket) for t in trials}
    drawn = [
        Draw(row.number, *at[row.id], Configuration(), 0)  # type: ignore[arg-type]
        for row in rows
        if row.kind == "search" and row.id in at
    ]
    frozen = tuple(Configuration(learning_rate=1.0 + row.number) for row in rows if row.kind == "baseline")
    plan = Plan(brackets, tuple(drawn), frozen, results.study.rule, search.max_epochs)
    leaders = [trial.configuration for _, trial in schedule.leaders(plan, facts, kind)]
    running = {t.configuration for t in trials if t.status == "RUNNING"}
    ranked = results.ranking(kind)
    ended = ranked[ranked["status"] == "completed"]
    # What runs keeps its weights anyway.
    assert [name for name in leaders if name not in running] == list(ended["id"])


@pytest.mark.parametrize("checkpoint", ["best", "last"])
@pytest.mark.parametrize("objective", ["val_loss", "val_accuracy", "val_auc"])
@pytest.mark.parametrize("made", VARIANTS.values(), ids=VARIANTS.keys())
def test_the_search_and_the_report_rank_alike(tmp_path: Path, made: Made, objective: str, checkpoint: str) -> None:
    database = make_study(tmp_path, replace(made, objective=objective, checkpoint=checkpoint))
    with Store(database) as store, store.transaction():
        # Ties in everything that is measured, as twenty images make them.
        measured = ", ".join(f"{name} = round({name}, 1)" for name in ("val_loss", "val_accuracy", "score"))
        store._db.execute(f"UPDATE epochs SET {measured}")
        store._db.execute("DELETE FROM predictions")  # they would say otherwise
    for kind in ("search", "baseline"):
        agree(database, kind)


def test_the_search_ranks_an_edited_study_as_the_report_does(tmp_path: Path) -> None:
    database = make_study(tmp_path)
    before = list(Results.open(database).ranking()["id"])
    with Store(database) as store:
        store.write("UPDATE epochs SET val_loss = 0.001 WHERE configuration = ?", before[-2])
    assert list(Results.open(database).ranking()["id"])[0] == before[0]
    agree(database, "search")


def test_a_leader_that_fails_in_a_later_rung_leads_neither(tmp_path: Path) -> None:
    database = make_study(tmp_path)
    winner = Results.open(database).winner()
    assert winner is not None
    with Store(database) as store, store.transaction():
        store._db.execute(
            "UPDATE trials SET status = 'FAILED' WHERE configuration = ? AND last_epoch = "
            "(SELECT MAX(last_epoch) FROM trials WHERE configuration = ?)",
            (winner["id"], winner["id"]),
        )
    agree(database, "search")
    second = Results.open(database).winner()
    assert second is not None and second["id"] != winner["id"]


def test_equal_figures_are_ranked_to_the_end() -> None:
    full = place((0.5, -0.5), failed=False, full=True, epochs=9, number=4)
    assert full < place((0.4, -0.5), failed=False, full=False, epochs=3, number=0)
    assert full < place((0.5, -0.5), failed=False, full=True, epochs=9, number=5)


@pytest.mark.parametrize(("accuracy", "failed", "seeds"), [(0.9, False, 5), (0.5, False, 20), (0.9, True, 20)])
def test_a_side_whose_first_seeds_come_out_unlike_each_other_is_given_more(
    accuracy: float, failed: bool, seeds: int
) -> None:
    """It alone, and by what its seeds say of the validation images."""
    plan = replace(planning(confirm=ConfirmSpec()), test=True, validation=100)
    facts = Facts(plan.rule)
    while ready := schedule.ready(plan, facts):
        end(plan, facts, ready[0])
    sides = schedule.sides(plan, facts)
    assert sides is not None
    facts.confirmation = Confirmation(5, sides)
    begun = []
    while ready := schedule.ready(plan, facts):
        trial = ready[0]
        begun.append(trial.configuration)
        odd = trial.configuration == f"{sides[0].source}-s03"
        facts.add_epoch(trial.configuration, EpochRow(9, 0.1, 0.9, 0.1, accuracy if odd else 0.9, 0.1, 9))
        facts.conclude(trial.key, "FAILED" if odd and failed else "COMPLETED", 9, None)
    counts = [sum(ids.source_of(name) == side.source for name in begun) for side in sides]
    assert counts == [seeds, *(1 if side.kind == "logistic" else 5 for side in sides[1:])]
