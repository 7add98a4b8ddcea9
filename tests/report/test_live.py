"""The live display and the plain lines, fed with the events of whole searches."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from made_search import FINISHED, HYPERBAND_27, INTERRUPTED, MANY, THREE_CLASSES, Made, simulate
from made_study import make_study
from rich.console import Console

from tuner.evidence.results import Results
from tuner.report.live import Live, PlainLines
from tuner.report.progress import can_show, earlier
from tuner.search.events import Counted, Event, Notice, Phase, Planned, TrialEnded, TrialStarted
from tuner.store.store import Bracket, Store

DEFAULT = Made(plan=HYPERBAND_27, baseline=10)
PATIENT = replace(MANY, patience=1)


def events(made: Made = FINISHED) -> list[Event]:
    return [event for event, _ in simulate(made)]


def shown(live: Live, width: int = 80, height: int = 24) -> list[str]:
    console = Console(width=width, height=height, force_terminal=False)
    with console.capture() as capture:
        console.print(live)
    return capture.get().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 40), (40, 12), (20, 8)])
def test_it_fits_the_terminal_after_every_event(width: int, height: int) -> None:
    live = Live(clock=lambda: 0.0)
    for number, event in enumerate(events(DEFAULT)):
        live.on(event)
        if number % 40 == 0 or isinstance(event, (Planned, Phase)):
            lines = shown(live, width, height)
            assert len(lines) < min(height, 24)
            assert max(map(len, lines)) <= width


@pytest.mark.parametrize(
    ("test", "said"),
    [(0, "No test set"), (4, "so few cannot"), (30, "1 image in 10."), (99, "1 image in 10."), (400, "in 20, or")],
)
def test_before_anything_is_spent_it_says_what_can_be_shown_for_which_agreement(test: int, said: str) -> None:
    text = can_show(Counted(80, 20, test, seeds=5))
    assert said in text and ("5 seeds that differ by 1.5 points" in text) is (test > 4)
    shown = [float(x) for x in re.findall(r"([0-9.]+) points where", text)]
    assert shown == sorted(shown) and all(x > 2 for x in shown), "never less than the margin"
    assert can_show(Counted(80, 20, test, seeds=2)) != text or test < 50


def test_it_shows_phase_rungs_trial_best_baseline_rate_and_time_left() -> None:
    now = [0.0]
    live = Live(clock=lambda: now[0])
    stream = events(DEFAULT)
    for event in stream[: [i for i, e in enumerate(stream) if isinstance(e, TrialEnded)][60]]:
        live.on(event)
    left = live.state.seconds_left
    assert left is not None
    now[0] = 5.0
    text = "\n".join(shown(live))
    for part in (
        "searching",
        "60 of 100 trials",
        "5.0 s gone",
        "812 images/s",
        "34/34 ok",
        "12/12 ok",
        ">>",
        "running",
        "epoch",
        "baseline",
        "best",
    ):
        assert part in text
    assert f"about {round(left - 5)} s left" in text, "the time left runs down between trials"


@pytest.mark.parametrize("made", [FINISHED, MANY, THREE_CLASSES, INTERRUPTED, PATIENT])
def test_it_names_the_same_best_and_baseline_as_the_report(tmp_path: Path, made: Made) -> None:
    live = Live(clock=lambda: 0.0)
    for event in events(made):
        live.on(event)
    found = Results.open(make_study(tmp_path, made))
    for kind, expected in (("search", found.winner()), ("baseline", found.baseline())):
        best = live.state.best(kind)
        assert best is not None and expected is not None
        assert (best.start.configuration, best.row.epoch) == (expected["id"], expected["best_epoch"])
        assert made is INTERRUPTED or best.epochs == expected["epochs"]


def test_a_session_that_goes_on_shows_the_best_of_the_earlier_one_and_counts_nothing_twice() -> None:
    stream = events()
    plan = next(e for e in stream if isinstance(e, Planned))
    trials = [e for e in stream if isinstance(e, (TrialStarted, TrialEnded))]
    first = trials[:40]
    live = Live(clock=lambda: 0.0)
    resumed = Planned(plan.brackets, plan.baseline, plan.max_epochs, plan.objective, done=20, total=plan.total)
    for event in [*first, resumed, Phase("search"), *trials[40:]]:
        live.on(event)
    assert live.state.ended == plan.total
    whole = Live(clock=lambda: 0.0)
    for each in stream:
        whole.on(each)
    assert live.state.best("search") == whole.state.best("search")
    assert live.state.rungs == whole.state.rungs


def test_many_brackets_become_one_line_instead_of_a_cut_table() -> None:
    plan = tuple(
        Bracket(0, s, tuple(2**k for k in range(s, -1, -1)), tuple(2 ** (9 - k) for k in range(s, -1, -1)))
        for s in range(9, -1, -1)
    )
    live = Live(clock=lambda: 0.0)
    live.on(Planned(plan, 8, 512, "val_loss", 0, 2000))
    live.on(Phase("search"))
    live.on(
        TrialStarted(
            "0000",
            "c000",
            "search",
            {"unfrozen_layers": 10, "learning_rate": 1e-3, "head_width": 0},
            0,
            4,
            0,
            0,
            32,
            "conv5_block2",
        )
    )
    lines = shown(live)
    assert any(line.startswith("bracket 4: 0/16 >> at 32") for line in lines)
    assert len(lines) < 24


def test_names_and_notices_are_text() -> None:
    live, plain = Live(clock=lambda: 0.0), PlainLines()
    notice = Notice("[/x] \x1b[2J\nclass <script>", warning=True)
    live.on(notice)
    assert shown(live)[-1] == "! [/x] \\x1b[2J class <script>"
    assert plain.on(notice) == "warning: [/x] \\x1b[2J class <script>"


def test_plain_lines_are_one_for_each_trial_and_few_besides() -> None:
    plain = PlainLines()
    stream = events()
    lines = [line for event in stream if (line := plain.on(event)) is not None]
    trials = [line for line in lines if line.startswith("trial ")]
    assert len(trials) == sum(isinstance(e, TrialEnded) for e in stream)
    assert len(lines) <= len(trials) + 10
    assert all("\n" not in line for line in lines)
    assert "trial 33/33" in trials[-1]
    assert [line for line in trials if "FAILED: the loss became NaN in epoch 1" in line]


def test_a_line_says_the_epochs_that_a_trial_was_trained_for() -> None:
    plain = PlainLines()
    lines = {e: line for e in events(PATIENT) if (line := plain.on(e)) is not None and isinstance(e, TrialEnded)}
    rungs = {e.trial: e.last_epoch for e in events(PATIENT) if isinstance(e, TrialStarted)}
    early = [e for e in lines if e.status == "COMPLETED" and (e.epochs or 0) < rungs[e.trial]]
    assert early and all(f"epoch {e.epochs}; " in lines[e] for e in early)


@pytest.mark.parametrize("patience", [0, 1])
def test_the_earlier_sessions_of_a_study_can_be_replayed_from_its_database(tmp_path: Path, patience: int) -> None:
    made = Made(trials=20, outcome=None, patience=patience)
    live, replayed = Live(clock=lambda: 0.0), Live(clock=lambda: 0.0)
    stream = [e for e in events(made) if isinstance(e, (Planned, TrialStarted, TrialEnded))]
    begun = stream[-1]
    assert isinstance(begun, TrialStarted), "the search was cut off inside a trial"
    for event in stream[:-1]:
        live.on(event)
    with Store(make_study(tmp_path, made), readonly=True) as store:
        for event in earlier(store):
            replayed.on(event)
    plan = stream[0]
    assert isinstance(plan, Planned)
    replayed.on(Planned(plan.brackets, plan.baseline, plan.max_epochs, plan.objective, 20, plan.total))
    assert replayed.state.rungs == live.state.rungs
    assert (replayed.state.ended, replayed.state.failed) == (live.state.ended, live.state.failed)
    for kind in ("search", "baseline", "reference"):
        assert replayed.state.best(kind) == live.state.best(kind)
