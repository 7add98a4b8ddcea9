"""The plan of a search as rich tables of at most 100 columns."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tuner.artifacts.files import room
from tuner.report import words
from tuner.report.tables import NAME, NUMBER, TEXT, Columns, with_columns
from tuner.search.planning import Plan
from tuner.search.work import Cut

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
    counts = ", ".join(
        f"{number} {name}" + (f" ({words.several(plan.groups[name], 'group')})" if plan.groups else "")
        for name, number in plan.photographs.items()
        if number
    )
    parts: list[RenderableType] = [Text(f"{sum(plan.photographs.values())} photographs: {counts}.")]
    parts += [Text(f"Note: {words.visible(' '.join(notice.split()))}") for notice in plan.notices]
    if plan.patience:
        parts.append(Text("Epochs and times are upper bounds: a trial can end early (search.patience)."))
    parts += [_trained(plan), _rungs(plan), _cuts(plan)]
    return Group(*parts, *_estimate(plan))


def _table(title: str, columns: Columns) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    return with_columns(table, columns)


def _trained(plan: Plan) -> RenderableType:
    fields = ["configurations", "trials", "epochs", *["epochs_done"] * plan.begun]
    headers = (field.replace("_", " ") for field in fields)
    table = _table("What is trained", {"": NAME} | dict.fromkeys(headers, NUMBER))
    for kind in plan.kinds:
        counts = [f"{getattr(kind, field):,}" for field in fields]
        most = "at most " if kind.name == "confirm" and not plan.winner_known else ""
        table.add_row(NAMES[kind.name], most + counts[0], *counts[1:])
    table.add_section()
    table.add_row("in all", *(f"{sum(getattr(k, field) for k in plan.kinds):,}" for field in fields), style="bold")
    return table


def _rungs(plan: Plan) -> RenderableType:
    """A row a bracket: configurations at the epoch that a rung trains to."""
    several = len({r.bracket.iteration for r in plan.rungs}) > 1
    before = {"iteration": NUMBER} if several else {}
    columns = {"bracket": NUMBER, "rungs: configurations at epoch": TEXT, "configurations": NUMBER, "epochs": NUMBER}
    table = _table("Hyperband's brackets", {**before, **columns})
    shown = plan.rungs[:12]
    for r in shown:
        b = r.bracket
        cells = [
            f"{size} at {epoch}" + (f" ({done} done)" if done else "")
            for size, epoch, done in zip(b.sizes, b.epochs, r.done, strict=True)
        ]
        epochs = sum(size * (end - begun) for size, begun, end in zip(b.sizes, (0, *b.epochs), b.epochs, strict=False))
        row = [str(b.bracket), ", ".join(cells), f"{b.sizes[0]:,}", f"{epochs:,}"]
        table.add_row(*([str(b.iteration + 1)] if several else []), *row)
    if len(plan.rungs) <= len(shown):
        return table
    return Group(table, Text(f"and {len(plan.rungs) - len(shown)} brackets more, in further iterations.", style="dim"))


def _cuts(plan: Plan) -> RenderableType:
    columns = {"cut": NAME, "for unfrozen layers": TEXT, "size": NUMBER, "state": TEXT}
    table = _table("Features of the frozen layers", columns)
    for cut in plan.cuts:
        depths = ", ".join(map(str, cut.depths)) or ("-" if cut.cut == "image" else "the baseline alone")
        views = f", {words.several(cut.views, 'view')} {cut.augmentation}" if cut.augmentation != "none" else ""
        table.add_row(cut.cut + views, depths, _room(cut.bytes), _state(cut))
    return table


def _room(size: int) -> str:
    return room(size) if size >= 1e6 else "< 1 MB"


def _state(cut: Cut) -> str:
    if cut.cut == "image" and cut.augmentation == "none":
        return "the photographs themselves"
    if cut.state == "recomputed":
        return f"not stored (search.feature_budget_gb): recomputed from {cut.start} in every epoch"
    if cut.state == "cached":
        return "in the cache already"
    return "to draw" if cut.cut == "image" else "to compute"


def _estimate(plan: Plan) -> list[RenderableType]:
    found, fitting = plan.estimate, [Text(_fitting(plan))] if plan.time_budget != "none" else []
    if plan.finished:
        return [Text("Nothing is left to train: 0 s.", style="bold"), *fitting]
    table = _table("Estimated for this machine", {"": NAME, "time": NUMBER})
    for name, seconds in found.phases:
        table.add_row(PHASES[name], words.seconds(seconds))
    table.add_section()
    table.add_row("in all", words.seconds(found.total), style="bold")
    lines = []
    if found.high > found.low:
        others = found.total - dict(found.phases)["confirm"]
        lines.append(
            f"It depends on who wins: {words.seconds(others + found.low)} if the cheapest configuration does, "
            f"{words.seconds(others + found.high)} if the dearest does and its last epoch is its best."
        )
    cache = f", {_room(found.cache)} more in the cache" if found.cache else ""
    lines.append(
        f"Memory at its peak about {room(found.memory)}; disk up to {_room(found.folder)} in the study's folder, most "
        f"of it given back at the end{cache}."
    )
    return [table, *fitting, *(Text(line) for line in lines)]


def _fitting(plan: Plan) -> str:
    """What the time budget has room for."""
    searched, missing = next(k for k in plan.kinds if k.name == "search"), plan.estimate.out_of_time.values()
    never = sum(rung == 0 for rung in missing)
    some, every = searched.configurations - never, searched.configurations
    rest = f", {len(missing) - never} of them not to their last epoch" if len(missing) > never else ""
    rest = rest if some else ": only the baseline is trained"
    return f"{some} of {every} configurations are expected to fit into the time budget of {plan.time_budget}{rest}."
