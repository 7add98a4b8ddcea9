"""What a running search looks like: a live display for a terminal, plain lines for a pipe. Prints nothing itself.

Imports neither pandas nor matplotlib: the search must not wait for them, and they must not take its memory.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tuner.report import words
from tuner.report.progress import CONFIRMING, DONE, PARTLY, RUNS, WAITS, Progressed, can_show
from tuner.search.events import Counted, Event, Notice, Phase, Planned, TrialEnded
from tuner.store.store import Bracket, EpochRow

TITLES = {
    "images": "reading photographs",
    "backbone": "loading the backbone",
    "features": "computing features",
    "baseline": "training the baseline",
    "search": "searching",
    "confirm": "confirming",
}


class Live:
    """A renderable that shows the search as of now; hand it to `rich.live.Live` and call `on` with each event."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.state = Progressed()
        self._clock = clock
        self._began = clock()
        self._left_at = self._began

    def on(self, event: Event) -> None:
        self.state.take(event)
        if isinstance(event, TrialEnded):
            self._left_at = self._clock()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = min(options.size.height, 24) - 1
        parts: list[RenderableType] = [self._phase(options.max_width), self._times()]
        below, notices = [*self._trial(), *self._standing()], self._notices()
        # In a low terminal the notices go first, then the hyperparameters; the rungs take what room is left.
        if len(parts) + 1 + len(below) + len(notices) > height:
            notices = []
        if len(parts) + 1 + len(below) > height:
            below = [(name, text) for name, text in below if name]
        grid = self._grid(console, options, height - len(parts) - len(below) - len(notices) - 2)
        if grid is not None:
            parts += [Text(), grid]
        if below:
            parts += [Text(), _pairs(below)]
        yield Group(*parts, *notices)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(20, options.max_width)

    # ---- the lines ----

    def _phase(self, width: int) -> RenderableType:
        state = self.state
        if state.phase is None:
            return Text("starting")
        title = TITLES.get(state.phase.name, words.visible(state.phase.name))
        plan = state.plan if state.phase.name in ("baseline", "search") else None
        done, total, thing = 0, 0, ""
        if plan is not None:
            done, total, thing = state.ended, plan.total, "trials"
        elif state.progress is not None:
            done, total, thing = state.progress.done, state.progress.total, "images"
        row = Table.grid(padding=(0, 1, 0, 0))
        row.add_column(no_wrap=True)
        row.add_column(no_wrap=True)
        row.add_column(no_wrap=True, overflow="ellipsis")
        count = Text(f"{done} of {total} {thing}" if total else words.visible(state.phase.detail))
        bar: RenderableType = Text("")
        if total and width >= 56:
            bar = ProgressBar(total=total, completed=done, width=min(30, width - 46))
        row.add_row(Text(title, style="bold"), bar, count)
        return row

    def _times(self) -> Text:
        state = self.state
        parts = [f"{words.seconds(self._clock() - self._began)} gone"]
        if state.seconds_left:
            left = state.seconds_left - (self._clock() - self._left_at)
            parts.append(f"about {words.seconds(left)} left" if left > 1 else "nearly done")
        if state.rate is not None and math.isfinite(state.rate):
            parts.append(f"{state.rate:.0f} images/s")
        if state.failed:
            parts.append(f"{state.failed} failed")
        return _cut(", ".join(parts))

    def _grid(self, console: Console, options: ConsoleOptions, rows: int) -> RenderableType | None:
        """Brackets by rungs, as much of it as there is room for."""
        state, plan = self.state, self.state.plan
        if plan is None or not plan.brackets or rows < 1:
            return None
        current = next((s for s in reversed(list(state.running.values())) if s.bracket is not None), None)
        iteration = current.iteration if current is not None else max((place[0] for place in state.rungs), default=0)
        brackets = [b for b in plan.brackets if b.iteration == iteration] or list(plan.brackets)
        grid = bracket_grid(state, brackets)
        wide = Measurement.get(console, options.update(max_width=1000), grid).maximum
        if len(brackets) < rows and wide <= options.max_width:
            return grid
        here = next((b for b in brackets if current is not None and b.bracket == current.bracket), brackets[0])
        cells = [f"{_cell(state, here, rung)} at {last}" for rung, last in enumerate(here.epochs)]
        return _cut(f"bracket {here.bracket}: " + ", ".join(cells) + (" epochs" if cells else ""))

    def _trial(self) -> list[tuple[str, str]]:
        state = self.state
        if not state.running:
            return []
        start = list(state.running.values())[-1]
        latest, epoch = state.latest, f"from epoch {start.first_epoch + 1} of {start.last_epoch}"
        if latest is not None and latest.trial == start.trial:
            epoch = f"epoch {latest.row.epoch} of {start.last_epoch}, val loss {words.number(latest.row.val_loss)}"
        more = f", {len(state.running) - 1} more running" if len(state.running) > 1 else ""
        return [
            ("running", f"{epoch} ({words.visible(start.configuration)}{more})"),
            ("", words.configuration(start.hyperparameters)),
        ]

    def _standing(self) -> list[tuple[str, str]]:
        lines = []
        for kind, name in (("search", "best"), ("baseline", "baseline")):
            held = self.state.best(kind)
            if held is not None:
                start, full = held.start, self.state.is_full(held)
                so_far = "" if full else f" after {_epochs(held.epochs)}"
                lines += [
                    (name, f"{_score(held.row, self.state.objective)}{so_far} ({words.visible(start.configuration)})"),
                    ("", words.configuration(start.hyperparameters)),
                ]
        return lines

    def _notices(self) -> list[RenderableType]:
        """The latest two, a line each; all of them stand in the plain lines and in the report."""
        return [_cut(f"{'! ' if n.warning else ''}{_in_a_line(n.text)}") for n in self.state.notices[-2:]]


def _cut(text: str) -> Text:
    """One line, whose end goes where the terminal is too narrow."""
    return Text(text, no_wrap=True, overflow="ellipsis")


def _in_a_line(text: str) -> str:
    return words.visible(" ".join(text.split()))


def _epochs(count: int) -> str:
    return f"{count} epoch{'s' * (count > 1)}"


def _score(row: EpochRow, objective: str) -> str:
    if words.missing(row.val_loss):
        return "fitted to training and validation images"
    ranked_by = words.scored({objective: row.score}, before="") + ", " if row.score is not None else ""
    return f"{ranked_by}val loss {words.number(row.val_loss)}, {words.percent(row.val_accuracy)} right"


def bracket_grid(state: Progressed, brackets: list[Bracket]) -> Table:
    """A row a bracket, a column a rung, so that rungs of the same epochs stand under each other."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    longest = max(brackets, key=lambda b: len(b.epochs))
    grid.add_column(no_wrap=True)
    for _ in longest.epochs:
        grid.add_column(no_wrap=True, justify="right", min_width=7)
    grid.add_row("bracket", *map(_epochs, longest.epochs))
    for bracket in brackets:
        skipped = len(longest.epochs) - len(bracket.epochs)
        cells = [
            Text(_cell(state, bracket, rung), style=STYLES[state.rung(bracket, rung)[0]])
            for rung in range(len(bracket.epochs))
        ]
        grid.add_row(Text(str(bracket.bracket)), *[Text("")] * skipped, *cells)
    return grid


STYLES = {DONE: "green", RUNS: "bold", PARTLY: "", WAITS: "dim"}


def _cell(state: Progressed, bracket: Bracket, rung: int) -> str:
    name, ended = state.rung(bracket, rung)
    count = f"{ended}/{bracket.sizes[rung]}"
    return {DONE: f"{count} ok", RUNS: f"{count} >>", PARTLY: f"{count} ..", WAITS: f"{count}   "}[name]


def _pairs(lines: list[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold", min_width=8)
    table.add_column(no_wrap=True, overflow="ellipsis")
    for name, text in lines:
        table.add_row(Text(name), _cut(text))
    return table


class PlainLines:
    """One line for each event worth one, for pipes and CI: phases, notices and finished trials."""

    def __init__(self) -> None:
        self.state = Progressed()

    def on(self, event: Event) -> str | None:
        """The line to print, without its newline, or None."""
        self.state.take(event)
        match event:
            case Phase():
                title = TITLES.get(event.name, words.visible(event.name))
                return f"{title}: {words.visible(event.detail)}" if event.detail else title
            case Notice():
                return ("warning: " if event.warning else "") + _in_a_line(event.text)
            case Counted():
                return can_show(event)
            case Planned():
                done = f", {event.done} already done" if event.done else ""
                rungs = sum(len(b.sizes) for b in event.brackets)
                where = f"{words.several(len(event.brackets), 'bracket')}, {words.several(rungs, 'rung')}"
                return f"plan: {event.total} trials in {where}, {event.baseline} for the baseline{done}"
            case TrialEnded():
                return self._ended(event)
        return None

    def _ended(self, event: TrialEnded) -> str:
        total = f"/{self.state.plan.total}" if self.state.plan else ""
        start = self.state.starts.get(event.trial)
        number = "confirming" if event.kind in CONFIRMING else f"trial {self.state.ended}{total}"
        parts = [f"{number} {words.visible(event.configuration)}"]
        if start is not None:
            rung = "" if start.bracket is None else f"bracket {start.bracket} rung {start.rung}, "
            known = event.status == "COMPLETED" and event.epochs is not None
            parts.append(f"{rung}epoch {event.epochs if known else start.last_epoch}")
        if event.status == "FAILED":
            parts.append("FAILED: " + words.visible(event.reason or "no reason given"))
        elif event.best is not None:
            parts.append(_score(event.best, self.state.objective))
        if start is not None:
            parts.append(words.configuration(start.hyperparameters))
        if event.seconds_left is not None and event.seconds_left > 0:
            parts.append(f"about {words.seconds(event.seconds_left)} left")
        return "; ".join(parts)


def lines_to(line: Callable[[str], object], listen: Callable[[Event], object] | None = None) -> Callable[[Event], None]:
    """A listener that gives each plain line to `line`, and each event to `listen` after it."""
    plain = PlainLines()

    def on(event: Event) -> None:
        if (text := plain.on(event)) is not None:
            line(text)
        if listen is not None:
            listen(event)

    return on
