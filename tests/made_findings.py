"""Made-up findings and importance for the report's tests, one of each kind of verdict."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from tuner.evidence.findings import Findings, Interval, Rate, Selection, Side
from tuner.evidence.results import Results
from tuner.evidence.statistics import wilson

KINDS = ("gain", "loss", "looks better", "no difference", "too few images", "too few seeds", "unstable", "open")


def rate(correct: int, n: int) -> Rate:
    return Rate(correct, n, *wilson(correct, n))


def findings(results: Results, kind: str = "gain", images: int = 200) -> Findings:
    """Findings about the study's own winner and baseline, counted on `images` test images from five fresh seeds."""
    winner, baseline = results.winner(), results.baseline()
    assert winner is not None and baseline is not None
    difference = {"gain": 0.052, "loss": -0.061, "no difference": 0.004, "too few images": 0.03}.get(kind, 0.0)
    half = 0.07 if kind == "too few images" else 0.031
    shares = tuple(round((0.86 + d) * images) / images for d in (-0.01, 0.0, 0.005, 0.005, 0.015))
    confirmed = Interval(difference, difference - half, difference + half, "images and seeds, Satterthwaite's t")
    first = Side(
        configuration=str(winner["id"]),
        kind="search",
        epochs=9,
        accuracies=tuple(round(a + difference, 4) for a in shares),
        failed=0,
        searched=rate(int(winner["correct"]), int(winner["validation"])),
        confirmed=rate(round(0.9 * images), images),
    )
    second = replace(
        first,
        configuration=str(baseline["id"]),
        kind="baseline",
        accuracies=shares[:4],
        failed=1,
        searched=rate(int(baseline["correct"]), int(baseline["validation"])),
        confirmed=rate(round(0.85 * images), images),
    )
    other = Side("logistic", "logistic", 0, (round(0.83 * images) / images,), 0, second.searched, second.confirmed)
    return Findings(
        kind=kind,
        sentence=SENTENCES[kind],
        evidence=(
            f"Winner and baseline were trained again from 5 fresh seeds and counted on {images} test images.",
            "The first seed alone: exact McNemar p = 0.031, a footnote.",
        ),
        ground="test",
        images=images,
        seeds=5,
        margin=0.02,
        winner=first,
        baseline=second,
        other_baseline=other,
        compared=confirmed,
        mcnemar=0.031,
        openings=1,
        folds=Interval(difference / 2, difference / 2 - 0.05, difference / 2 + 0.05, "Nadeau and Bengio"),
        folds_made="5 folds, 2 times",
        selection=Selection(
            searched=difference + 0.05,
            corrected=Interval(difference + 0.012, difference - 0.04, difference + 0.06, "bootstrap, out of the bag"),
            draws=2000,
            expected_best=((1, 0.71), (2, 0.77), (4, 0.82), (8, 0.86), (16, 0.89)),
        ),
    )


SENTENCES = {
    "gain": "Unfreezing 20 layers gains 5.2 points of accuracy over the frozen baseline (95% interval 2.1 to 8.3).",
    "loss": "The winner loses 6.1 points of accuracy against the frozen baseline.",
    "no difference": "No difference larger than 2 points between the winner and the frozen baseline.",
    "too few images": "Too few images to tell: about 900 test images would do.",
    "looks better": "The winner looks better than the baseline; these images chose it.",
    "too few seeds": "Too few seeds to tell: 4 of the winner's 5 fresh seeds failed.",
    "unstable": "Training is not stable enough to tell: the median seed is ahead, but on average the winner is behind.",
    "open": "Not confirmed yet.",
}


def importance() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "budget": ["first rungs"] * 3 + ["full budget"],
            "epochs": ["1, 3"] * 3 + ["9"],
            "hyperparameter": ["learning_rate", "unfrozen_layers", "head_width", "unfrozen_layers"],
            "share": [0.61, 0.22, 0.04, 0.37],
            "share_by_luck": [0.11, 0.08, 0.09, 0.25],
            "p": [0.001, 0.04, 0.71, 0.4],
            "configurations": [34, 34, 34, 11],
            "groups": [2, 2, 2, 1],
        }
    )
