"""When a search has nothing left to go on with: a rung, or everything that was searched, failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuner.errors import SearchError
from tuner.search.candidates import Candidate
from tuner.search.standing import bracket_of

if TYPE_CHECKING:
    from tuner.search.loop import Search


def check_rung(search: Search, candidate: Candidate) -> None:
    """Stops when every configuration of a rung failed: something is wrong with all of them.

    A later rung of a single configuration is no such sign: its failure is its own.
    """
    row = candidate.row
    query = "SELECT status, reason FROM trials WHERE iteration = ? AND bracket = ? AND rung = ?"
    ended = search.store.rows(query, row.iteration, row.bracket, row.rung)
    rung, size = int(row.rung or 0), bracket_of(search.plan, row).sizes[int(row.rung or 0)]
    if rung:
        below = search.store.rows(query, row.iteration, row.bracket, rung - 1)
        size = min(size, sum(r["status"] == "COMPLETED" for r in below))
    if len(ended) < size or (rung and size == 1) or any(r["status"] != "FAILED" for r in ended):
        return
    reasons = [str(r["reason"]) for r in ended]
    common = sorted(set(reasons), key=lambda reason: (-reasons.count(reason), reason))[:3]
    raise SearchError(
        f"Every configuration of bracket {row.bracket}, rung {rung} failed ({len(ended)}): "
        + "; ".join(f"{reasons.count(reason)} times {reason}" for reason in common)
        + ". Lower space.learning_rate or look at the photographs; `tlstudy report` shows every trial."
    )


def check_any(search: Search) -> None:
    """Stops when no searched configuration survived: what is left is the baseline, and there is no winner."""
    if search.standing.leaders("search") or not search.plan:
        return
    query = "SELECT reason FROM trials WHERE iteration IS NOT NULL AND status = 'FAILED'"
    reasons = sorted({str(r["reason"]) for r in search.store.rows(query)})
    raise SearchError(
        f"Every searched configuration failed: {'; '.join(reasons[:3])}. Lower space.learning_rate or look at the "
        "photographs; the baseline was trained (`tlstudy best --baseline` exports it)."
    )
