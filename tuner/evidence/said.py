"""The sentences under a verdict. Plain text; each says a figure and what it is counted on."""

from __future__ import annotations

from collections.abc import Iterator

from tuner.evidence.calibration import Calibration
from tuner.evidence.findings import Findings, Selection, Side

OPEN = "Not confirmed yet: the search's own figures flatter its winner. `tlstudy confirm` trains it again."
FAILED = "Not confirmed: trained again from fresh seeds, one side failed every time."


def evidence(found: Findings) -> Iterator[str]:
    """In the order they are to be read; the verdict's own sentence is not repeated."""
    if found.winner is None or found.baseline is None or found.compared is None:
        return
    for name, side in (("The winner", found.winner), ("The baseline", found.baseline)):
        yield _side(name, side, found)
    yield (
        f"Difference {_points(found.compared.difference)} points, 95 % interval {_points(found.compared.low)} to "
        f"{_points(found.compared.high)} ({found.compared.method})."
    )
    if found.ground == "test":
        times = "once" if found.openings == 1 else f"{found.openings} times: each further look makes it less of a test"
        yield f"The test set was sealed before the search and opened {times}."
    else:
        yield (
            "There is no test set: the images that chose the winner judge it here, which no number of seeds makes up "
            "for. Put photographs aside in test/, or set data.test_fraction where tlstudy splits."
        )
    if found.folds is not None:
        yield (
            f"Cross-validation ({found.folds_made}, epoch chosen inside each training part): difference "
            f"{_points(found.folds.difference)} points, 95 % interval {_points(found.folds.low)} to "
            f"{_points(found.folds.high)} ({found.folds.method}). The configuration had seen these images when it was "
            "chosen."
        )
    yield from selection(found.selection)
    if found.mcnemar is not None:
        yield f"First seed alone: exact McNemar p = {found.mcnemar:.2g}."


def calibration(found: Calibration | None, ground: str) -> Iterator[str]:
    """Whether the winner's 80 % means 80 %, beside what luck alone would give."""
    if found is None:
        return
    if found.error is None or found.error_by_luck is None or found.p is None:
        yield f"Calibration is not shown: {found.reason}."
        return
    believed = "no more than luck gives" if found.p > 0.05 else "more than luck gives"
    yield (
        f"The winner's probabilities are off by {100 * found.error:.1f} points on average (first seed, {found.n} "
        f"{ground} images; luck alone: {100 * found.error_by_luck:.1f}, p = {found.p:.2g}): {believed}."
    )


def selection(found: Selection | None) -> Iterator[str]:
    """What choosing cost, as "search said x"."""
    if found is None:
        return
    yield (
        f"The search said {_points(found.searched)} points on the validation images; with the choosing taken out "
        f"{_points(found.corrected.difference)} ({found.draws:,} bootstrap draws, 95 % interval "
        f"{_points(found.corrected.low)} to {_points(found.corrected.high)})."
    )


def _side(name: str, side: Side, found: Findings) -> str:
    what = "logistic regression, which has no seed" if side.kind == "logistic" else f"{side.epochs} epochs"
    text = f"{name} {side.configuration} ({what})"
    if side.searched is not None:
        text += f": search said {side.searched.correct}/{side.searched.n}"
    share = sum(side.accuracies) / len(side.accuracies) if side.accuracies else 0.0
    text += f", confirmed {100 * share:.1f} %"
    if len(side.accuracies) > 1:
        low, high = (round(a * found.images) for a in (min(side.accuracies), max(side.accuracies)))
        text += f" over {len(side.accuracies)} seeds ({low} to {high} of {found.images})"
    if side.confirmed is not None:
        text += (
            f"; first seed {side.confirmed.correct}/{side.confirmed.n}, interval {100 * side.confirmed.low:.0f} to "
            f"{100 * side.confirmed.high:.0f} %"
        )
    return text + (f"; {_seeds(side.failed)} failed" if side.failed else "") + "."


def _points(share: float) -> str:
    return f"{100 * share:+.1f}" if round(1000 * share) else "0.0"


def _seeds(count: int) -> str:
    return f"{count} seed{'s' * (count != 1)}"
