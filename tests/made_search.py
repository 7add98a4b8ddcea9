"""Plays a made-up search as the events that the real loop would emit, without training anything.

Losses and accuracies are computed from made-up validation probabilities, so everything agrees with everything.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.evidence.metrics import score
from tuner.search.events import (
    EpochEnded,
    Event,
    Notice,
    Phase,
    Planned,
    Progress,
    TrialEnded,
    TrialStarted,
)
from tuner.spec.spec import Range, Spec
from tuner.store.ranking import Rule, best_of, out_of_patience, rank_of, value_of
from tuner.store.store import Bracket, EpochRow

Array = NDArray[np.float64]

HYPERBAND_9 = (
    Bracket(0, 2, (9, 3, 1), (1, 3, 9)),
    Bracket(0, 1, (5, 2), (3, 9)),
    Bracket(0, 0, (3,), (9,)),
)
HYPERBAND_27 = (
    Bracket(0, 3, (34, 12, 4, 2), (1, 3, 9, 27)),
    Bracket(0, 2, (15, 5, 2), (3, 9, 27)),
    Bracket(0, 1, (8, 3), (9, 27)),
    Bracket(0, 0, (4,), (27,)),
)


@dataclass(frozen=True)
class Made:
    """What to make up; the defaults are the finished study of 92 photographs."""

    classes: tuple[str, ...] = ("rural", "urban")
    train: int = 72
    validation: int = 20
    pretrained: bool = True
    objective: str = "val_loss"
    checkpoint: str = "best"
    patience: int = 0
    plan: tuple[Bracket, ...] = HYPERBAND_9
    baseline: int = 9
    space: dict[str, Any] = field(default_factory=dict)
    trials: int | None = None  # stop after so many trials, in the middle of the next one's first epochs
    outcome: str | None = "finished"
    failing: str | None = "c004"
    reason: str = "the loss became NaN in epoch 1"
    warnings: tuple[str, ...] = ("train/rural/rural8.jpeg and train/rural/rural22.jpeg are one photograph.",)
    seed: int = 0

    @property
    def max_epochs(self) -> int:
        return max(b.epochs[-1] for b in self.plan)

    def spec(self) -> Spec:
        space = {
            "unfrozen_layers": [0, 10, 20, 32],
            "learning_rate": {"min": 1e-5, "max": 1e-2, "sampling": "log"},
            **self.space,
        }
        search = {name: getattr(self, name) for name in ("max_epochs", "objective", "checkpoint", "patience")}
        return Spec.from_dict({"space": space, "search": search})

    @property
    def rule(self) -> Rule:
        return Rule(self.objective, self.checkpoint, self.patience)

    def labels(self, n: int) -> list[int]:
        return sorted(i % len(self.classes) for i in range(n))


FINISHED = Made()
INTERRUPTED = Made(trials=20, outcome=None)
NO_TRIAL_YET = Made(trials=0, outcome=None)
UNTRAINED = Made(pretrained=False)
SIX_CLASSES = Made(
    classes=(
        "dense $city$ centre",
        "farmland",
        "a class name that somebody made far too long to fit",
        "forest",
        "[/x] <script>",
        "water",
    ),
    train=240,
    validation=61,
    space={"dropout": [0.0, 0.3, 0.5], "weight_decay": {"min": 1e-6, "max": 1e-2, "sampling": "log"}},
)
THREE_CLASSES = Made(classes=("airfield", "harbour", "orchard"), validation=31, objective="val_accuracy")
MANY = Made(
    plan=HYPERBAND_27, baseline=10, train=800, validation=200, space={"unfrozen_layers": [0, 10, 20, 32, 42, 52]}
)


def _draw(values: Any, rng: np.random.Generator) -> float | int:
    if isinstance(values, Range):
        if values.sampling == "log":
            return float(math.exp(rng.uniform(math.log(values.min), math.log(values.max))))
        if isinstance(values.min, int) and isinstance(values.max, int):
            return int(rng.integers(values.min, values.max + 1))
        return float(rng.uniform(values.min, values.max))
    return values[int(rng.integers(len(values)))] if isinstance(values, tuple) else values  # type: ignore[no-any-return]


def configurations(made: Made) -> Iterator[tuple[str, str, int, dict[str, Any]]]:
    space = vars(made.spec().space)
    rng = np.random.default_rng(made.seed)
    for number in range(made.baseline):
        yield f"b{number:02}", "baseline", number, {k: _draw(v, rng) for k, v in space.items()} | {"unfrozen_layers": 0}
    yield (
        "ref",
        "reference",
        0,
        {k: _draw(v, rng) for k, v in space.items()}
        | {"unfrozen_layers": 0, "learning_rate": 1e-3, "head_width": 0, "dropout": 0.0},
    )
    for number in range(sum(b.sizes[0] for b in made.plan)):
        yield f"c{number:03}", "search", number, {k: _draw(v, rng) for k, v in space.items()}


def cut_for(unfrozen: int) -> str:
    return {0: "pooled", 10: "conv5_block2", 20: "conv5_block1", 32: "conv4_block6"}.get(unfrozen, "conv4_block5")


class _Learner:
    """How one configuration learns: each photograph has a difficulty, each configuration a speed and a ceiling."""

    def __init__(self, made: Made, number: int, hyperparameters: dict[str, Any]) -> None:
        self.labels = np.array(made.labels(made.validation))
        self.classes, self.objective = len(made.classes), made.objective
        self.difficulty = np.random.default_rng(made.seed + 7).gamma(1.6, 0.28, made.validation)
        self.difficulty[3::8] += 0.75  # a few photographs that nobody gets right for sure
        self.rng = np.random.default_rng([made.seed, number])
        self.own = self.rng.normal(0, 0.35, (made.validation, self.classes))
        rate = math.log10(hyperparameters["learning_rate"])
        depth = hyperparameters["unfrozen_layers"]
        self.speed = 0.9 * math.exp(-((rate + 3.2 + depth / 60) ** 2) / 2.2) + 0.03
        self.ceiling = (3.2 if made.pretrained else 1.4) + 0.01 * depth - 0.25 * max(0.0, rate + 2.4) * (1 + depth / 10)

    def epoch(self, epoch: int) -> tuple[EpochRow, Array]:
        learned = 1 - math.exp(-self.speed * epoch)
        margin = self.ceiling * learned * (1 - 1.25 * self.difficulty)
        logits = self.own * (0.5 + learned) + self.rng.normal(0, 0.12, self.own.shape)
        logits[np.arange(len(self.labels)), self.labels] += margin
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        share: Array = (odds / odds.sum(axis=1, keepdims=True)).astype("<f4")
        right = share[np.arange(len(self.labels)), self.labels]
        loss = math.log(self.classes) * (1 - 0.93 * learned) * (1 + 0.04 * float(self.rng.normal()))
        accuracy = min(1.0, 1 / self.classes + (1 - 1 / self.classes) * learned**0.7)
        hits = float((share.argmax(axis=1) == self.labels).mean())
        val_loss = float(-np.log(np.maximum(right, 1e-7)).mean())
        value = score(self.objective, share, self.labels)
        return EpochRow(epoch, loss, accuracy, val_loss, hits, 0.11, 92, value), share


class _Play:
    def __init__(self, made: Made) -> None:
        self.made = made
        self.all = {c[0]: c for c in configurations(made)}
        self.learners = {c[0]: _Learner(made, i, c[3]) for i, c in enumerate(self.all.values())}
        self.best: dict[str, EpochRow] = {}
        self.trained: dict[str, int] = {}
        self.done = 0
        self.total = made.baseline + 1 + sum(sum(b.sizes) for b in made.plan)

    def trial(
        self, trial: str, configuration: str, place: tuple[int | None, int | None, int | None], first: int, last: int
    ) -> Iterator[tuple[Event, Array | None]]:
        _, kind, _, values = self.all[configuration]
        yield (
            TrialStarted(trial, configuration, kind, values, *place, first, last, cut_for(values["unfrozen_layers"])),
            None,
        )
        stopping = self.made.trials is not None and self.done >= self.made.trials
        for epoch in range(first + 1, last + 1):
            if kind != "reference" and out_of_patience(self.best.get(configuration), epoch - 1, self.made.rule):
                break
            row, share = self.learners[configuration].epoch(epoch)
            if configuration == self.made.failing:
                row = EpochRow(epoch, math.nan, 0.5, math.nan, 0.5, 0.11, 92)
            self.trained[configuration] = epoch
            best = self.best.get(configuration, row)
            is_best = math.isfinite(row.val_loss) and best_of((best, row), self.made.rule) is row
            if is_best:
                self.best[configuration] = row
            yield EpochEnded(trial, configuration, kind, row, is_best, 812.0), share
            if stopping:
                return
        self.done += 1
        best = self.best.get(configuration)
        failed = configuration == self.made.failing
        yield (
            TrialEnded(
                trial,
                configuration,
                kind,
                "FAILED" if failed else "COMPLETED",
                None if failed or best is None else value_of(best, self.made.objective),
                None if failed else best,
                self.made.reason if failed else None,
                1.3 * (self.total - self.done),
                self.trained[configuration],
            ),
            None,
        )

    @property
    def over(self) -> bool:
        return self.made.trials is not None and self.done >= self.made.trials

    def score(self, configuration: str) -> tuple[float, ...]:
        return rank_of(self.best.get(configuration), self.made.rule)

    def __call__(self) -> Iterator[tuple[Event, Array | None]]:
        made = self.made
        yield Phase("images", f"{made.train + made.validation} photographs"), None
        yield Progress("images", made.train + made.validation, made.train + made.validation), None
        yield Phase("features", "pooled, conv5_block2, conv5_block1, conv4_block6"), None
        yield Progress("features", 40, made.train + made.validation), None
        for text in made.warnings:
            yield Notice(text, warning=True), None
        yield Planned(made.plan, made.baseline, made.max_epochs, made.objective, 0, self.total), None
        if made.trials == 0:
            return
        yield Phase("baseline"), None
        for id, (_, kind, _, _) in self.all.items():
            if kind != "search":
                yield from self.trial(id, id, (None, None, None), 0, made.max_epochs)
                if self.over:
                    return
        yield Phase("search"), None
        fresh, number = iter([c for c, v in self.all.items() if v[1] == "search"]), 0
        for bracket in made.plan:
            alive = [next(fresh) for _ in range(bracket.sizes[0])]
            for rung, (size, last) in enumerate(zip(bracket.sizes, bracket.epochs, strict=True)):
                alive = sorted(alive, key=self.score)[:size] if rung else alive
                for configuration in alive:
                    first = bracket.epochs[rung - 1] if rung else 0
                    yield from self.trial(
                        f"{number:04}", configuration, (bracket.iteration, bracket.bracket, rung), first, last
                    )
                    number += 1
                    if self.over:
                        # The next trial is begun and left in its first epoch, as a killed search leaves it.
                        yield from self.begun(alive, configuration, number, bracket, rung)
                        return

    def begun(
        self, alive: list[str], configuration: str, number: int, bracket: Bracket, rung: int
    ) -> Iterator[tuple[Event, Array | None]]:
        after = alive[alive.index(configuration) + 1 :]
        if after:
            first = bracket.epochs[rung - 1] if rung else 0
            yield from self.trial(
                f"{number:04}", after[0], (bracket.iteration, bracket.bracket, rung), first, bracket.epochs[rung]
            )


def simulate(made: Made = FINISHED) -> Iterator[tuple[Event, Array | None]]:
    """The events of the search, each with the validation probabilities of an epoch that is the best so far."""
    return _Play(made)()
