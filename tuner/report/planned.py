"""The plan of a search as rich tables of at most 100 columns."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tuner.artifacts.files import room
from tuner.report import words
from tuner.search.planning import Plan
from tuner.search.work import Cut, Kind

NAMES = {
    "reference": "reference",
    "baseline": "frozen baseline",
    "logistic": "logistic regression",
    "search": "Hyperband",
    "confirm": "confirmation",
}
PHASES = {
    "start": "start: imports, photographs, backbone",
    "features": "features",
    "baseline": "baseline",
    "search": "Hyperband",
    "confirm": "confirmation",
}


def report(plan: Plan) -> RenderableType:
    """The whole plan: what is trained, in which rungs, on which features, and what it takes."""
    counts = ", ".join(f"{number} {name}" for name, number in plan.photographs.items() if number)
    parts: list[RenderableType] = [Text(f"{sum(plan.photographs.values())} photographs: {counts}.")]
    parts += [Text(f"Note: {words.visible(' '.join(notice.split()))}") for notice in plan.notices]
    parts += [_trained(plan), _rungs(plan), _cuts(plan)]
    return Group(*parts, *_estimate(plan))


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)


def _trained(plan: Plan) -> RenderableType:
    table = _table("What is trained")
    table.add_column("", no_wrap=True)
    for name in ("configurations", "trials", "epochs"):
        table.add_column(name, justify="right", no_wrap=True)
    if plan.begun:
        table.add_column("epochs done", justify="right", no_wrap=True)
    for kind in plan.kinds:
        table.add_row(*_kind(plan, kind))
    sums = [sum(getattr(k, name) for k in plan.kinds) for name in ("configurations", "trials", "epochs", "epochs_done")]
    table.add_section()
    table.add_row("in all", *(f"{n:,}" for n in sums[: 4 if plan.begun else 3]), style="bold")
    return table


def _kind(plan: Plan, kind: Kind) -> list[str]:
    most = "at most " if kind.name == "confirm" and not plan.winner_known else ""
    cells = [NAMES[kind.name], f"{most}{kind.configurations:,}", f"{kind.trials:,}", f"{kind.epochs:,}"]
    return cells + ([f"{kind.epochs_done:,}"] if plan.begun else [])


def _rungs(plan: Plan) -> RenderableType:
    """A row a bracket: configurations at the epoch that a rung trains to."""
    table = _table("Hyperband's brackets")
    several = len({r.bracket.iteration for r in plan.rungs}) > 1
    if several:
        table.add_column("iteration", justify="right", no_wrap=True)
    table.add_column("bracket", justify="right", no_wrap=True)
    table.add_column("rungs: configurations at epoch", overflow="fold")
    table.add_column("configurations", justify="right", no_wrap=True)
    table.add_column("epochs", justify="right", no_wrap=True)
    shown = plan.rungs[:12]
    for r in shown:
        b = r.bracket
        cells = [
            f"{size} at {epoch}" + (f" ({done} done)" if done else "")
            for size, epoch, done in zip(b.sizes, b.epochs, r.done, strict=True)
        ]
        epochs = sum(size * (b.epochs[i] - (b.epochs[i - 1] if i else 0)) for i, size in enumerate(b.sizes))
        row = [str(b.bracket), ", ".join(cells), f"{b.sizes[0]:,}", f"{epochs:,}"]
        table.add_row(*([str(b.iteration + 1)] if several else []), *row)
    if len(plan.rungs) <= len(shown):
        return table
    return Group(table, Text(f"and {len(plan.rungs) - len(shown)} brackets more, in further iterations.", style="dim"))


def _cuts(plan: Plan) -> RenderableType:
    table = _table("Features of the frozen layers")
    table.add_column("cut", no_wrap=True)
    table.add_column("for unfrozen layers", overflow="fold")
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("state", overflow="fold")
    for cut in plan.cuts:
        depths = ", ".join(map(str, cut.depths)) or "the baseline alone"
        table.add_row(cut.cut, depths, _room(cut.bytes), _state(cut))
    return table


def _room(size: int) -> str:
    return room(size) if size >= 1e6 else "< 1 MB"


def _state(cut: Cut) -> str:
    if cut.cut == "image":
        return "the photographs themselves"
    if cut.state == "recomputed":
        return f"not stored (search.feature_budget_gb): recomputed from {cut.start} in every epoch"
    return "in the cache already" if cut.state == "cached" else "to compute"


def _estimate(plan: Plan) -> list[RenderableType]:
    if plan.finished:
        return [Text("Nothing is left to train: 0 s.", style="bold")]
    found = plan.estimate
    table = _table("Estimated for this machine")
    table.add_column("", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    for name, seconds in found.phases:
        table.add_row(PHASES[name], words.seconds(seconds))
    table.add_section()
    table.add_row("in all", words.seconds(found.total), style="bold")
    said = []
    if found.high > found.low:
        others = found.total - dict(found.phases)["confirm"]
        said.append(
            f"It depends on who wins: {words.seconds(others + found.low)} if the cheapest configuration does, "
            f"{words.seconds(others + found.high)} if the dearest does and its last epoch is its best."
        )
    cache = f", {_room(found.cache)} more in the cache" if found.cache else ""
    said.append(
        f"Memory at its peak about {room(found.memory)}; disk up to {_room(found.folder)} in the study's folder, most "
        f"of it given back at the end{cache}."
    )
    return [table, *(Text(line) for line in said)]
