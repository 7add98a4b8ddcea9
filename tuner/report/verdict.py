"""The verdict in words: what may be claimed, winner and baseline side by side, and the evidence under it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeGuard

from tuner.evidence.findings import GROUNDS, Findings, Interval, Rate, Side
from tuner.evidence.results import Results
from tuner.report import words
from tuner.report.rows import by_role
from tuner.report.words import Row
from tuner.store.ranking import Rule

KINDS = {
    "gain": "Gain shown",
    "loss": "Loss shown",
    "looks better": "Looks better, untested",
    "looks worse": "Looks worse, untested",
    "no difference": "No difference",
    "too few images": "Too few images to tell",
    "too few seeds": "Too few seeds to tell",
    "unstable": "Training is not stable",
    "open": "Not confirmed",
}
NOT_CONFIRMED = (
    "Not confirmed: winner and baseline were not trained again from fresh seeds. What follows is what the search saw "
    "on the validation images, which also chose its best."
)


def told(findings: Findings) -> tuple[str, str]:
    """The verdict as a heading, and the rest of its sentence, which may begin with that."""
    label, sentence = KINDS.get(findings.kind, findings.kind), words.visible(findings.sentence)
    opening, _, rest = sentence.partition(": ")
    return (opening, rest) if rest and opening.startswith(label) else (label, sentence)


def is_reached(findings: Findings | None) -> TypeGuard[Findings]:
    """Whether there is a verdict: the confirmation has ended."""
    return findings is not None and findings.kind != "open"


def unconfirmed(findings: Findings | None) -> str:
    """What stands in the place of a verdict."""
    return NOT_CONFIRMED if findings is None else words.visible(findings.sentence)


def ground(findings: Findings) -> str:
    """What the verdict is counted on."""
    on = "leaky test" if findings.leaks and findings.ground == "test" else findings.ground
    within = "" if findings.groups is None else f" in {words.several(findings.groups, 'group')}"
    text = f"Counted on {words.several(findings.images, 'image')}{within}: {GROUNDS.get(on, on)}"
    text += f"; {_ended(findings)}, for this training set and this search."
    if findings.exploratory:
        text += " Exploratory: no image was kept apart from the search."
    elif (times := findings.openings + findings.openings_elsewhere) > 1:
        text += f" The test set was opened {times} times."
    return text


def _ended(findings: Findings) -> str:
    """How many seeds ended on each side; logistic regression has none."""
    sides = {"winner": findings.winner, "baseline": findings.baseline}
    ended = {name: len(side.accuracies) for name, side in sides.items() if side and side.kind != "logistic"}
    if len(ended) != 1 and len(set(ended.values())) < 2:
        return f"{words.several(next(iter(ended.values()), findings.seeds), 'fresh seed')} each"
    return " and ".join(f"{words.several(count, 'fresh seed')} of the {name}" for name, count in ended.items())


# ---- winner against baseline ----


@dataclass(frozen=True)
class Beside:
    """One column of the comparison: the winner, a baseline, or the best with unfrozen layers beside a frozen winner."""

    role: str
    name: str
    values: str  # its hyperparameters in words
    searched: str
    confirmed: str
    seeds: str
    trained: str


def sides(results: Results, findings: Findings | None) -> list[Beside]:
    """Winner and baseline, as far as there are any; after a confirmation all that it trained again."""
    if not is_reached(findings):
        return [
            _searched("winner" if role == "best" else role, row)
            for role, row in by_role(results, "best", "baseline").items()
        ]
    table = {str(row["id"]): row for row in results.configurations().to_dict(orient="records")}
    named = {"winner": findings.winner, "baseline": findings.baseline, "other baseline": findings.other_baseline}
    named["best unfrozen"] = findings.unfrozen
    return [_confirmed(role, side, table.get(side.configuration)) for role, side in named.items() if side is not None]


def _searched(role: str, row: Row) -> Beside:
    known = not words.missing(row["correct"])
    found = Rate(int(row["correct"]), int(row["validation"]), float(row["low"]), float(row["high"])) if known else None
    searched = f"{rate(found)}, loss {words.number(row['val_loss'])}{words.scored(row)}"
    return Beside(role, str(row["id"]), words.configuration(row), searched, "", "", _trained(row))


def _confirmed(role: str, side: Side, row: Row | None) -> Beside:
    values = "logistic regression" if side.kind == "logistic" else side.kind
    return Beside(
        role,
        name=side.configuration,
        values=words.configuration(row) if row is not None else values,
        searched=rate(side.searched),
        confirmed=rate(side.confirmed),
        seeds=_seeds(side),
        trained="-" if row is None else _trained(row),
    )


def _trained(row: Row) -> str:
    return f"{words.cell(row, 'trained_parameters')} parameters trained in {words.cell(row, 'seconds')}"


def _seeds(side: Side) -> str:
    if side.mean is None or side.ended is None:
        return "no seed ended" if side.failed else "-"
    text = f"mean {100 * side.mean:.1f}%"
    if side.failed:
        text += f" with {side.failed} failed, as chance; {100 * side.ended:.1f}% without"
    if len(side.accuracies) > 1:
        low, high = (f"{100 * share:.1f}" for share in (min(side.accuracies), max(side.accuracies)))
        text += ", all alike" if low == high else f", {low} to {high}%"
    return text


LABELS = {
    "name": "configuration",
    "values": "trained as",
    "searched": "search said",
    "confirmed": "first fresh seed",
    "seeds": "all fresh seeds",
    "trained": "cost",
}


# ---- the evidence ----


def evidence(findings: Findings, rule: Rule) -> list[str]:
    """The sentences under the verdict, then what trying more configurations brings. `rule`: the study's."""
    lines = [words.visible(line) for line in findings.evidence]
    if findings.selection is not None and findings.selection.expected_best:
        expected = findings.selection.expected_best
        shown = [
            (n, share) for n, share in expected if n & (n - 1) == 0 or n == expected[-1][0]
        ]  # 1, 2, 4 ... the last
        by = rule.scored or "val_accuracy"
        each = [f"{words.FORMATS[by](share)} with {n}" for n, share in shown]
        after = findings.selection.expected_after
        epochs = f" after {words.several(after, 'epoch')}" if after else ""
        lines.append(
            f"Expected best {words.NAMES[by]}{epochs}, by how many configurations are tried: {words.listed(each)}."
        )
    return lines


# ---- numbers in words ----


def points(difference: float) -> str:
    """A difference of two shares: "+3.5 points"."""
    return f"{signed(difference)} points"


def signed(share: float) -> str:
    """A difference in points, a plain 0.0 for none."""
    return f"{100 * share:+.1f}" if round(1000 * share) else "0.0"


def interval(found: Interval) -> str:
    """A difference with its interval: "+3.5 points (95%: -1.0 to +8.0)"."""
    return f"{points(found.difference)} ({100 * found.confidence:.3g}%: {signed(found.low)} to {signed(found.high)})"


def rate(found: Rate | None) -> str:
    """An accuracy with its count and interval: "19/20 (95%, 76 to 99%)"."""
    if found is None or not found.n:
        return "-"
    within = f"{100 * found.low:.0f} to {words.percent(found.high)}"
    return f"{found.correct}/{found.n} ({words.percent(found.share)}, {within})"
