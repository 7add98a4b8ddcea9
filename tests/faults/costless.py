"""A search whose trials cost nothing: the real loop, oracle, store and checkpoints, and a network of eight numbers.

The network is a logistic regression in numpy with momentum: its losses depend on every step before, so that a resume
that loses or repeats one shows.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tuner.artifacts import own
from tuner.backbones.architecture import architecture
from tuner.features import sets
from tuner.features.bank import Features
from tuner.search import deaths, facts, setup
from tuner.search import space as spaces
from tuner.search.budget import Budget, grew
from tuner.search.checkpoints import Checkpoints
from tuner.search.confirming import Confirming
from tuner.search.costs import CostModel
from tuner.search.driver import Driver
from tuner.search.events import Event
from tuner.search.executors import Executor
from tuner.search.executors.inline import Inline
from tuner.search.plan import Plan
from tuner.spec.rules import NUMERICS, rules_of
from tuner.spec.seeds import generator
from tuner.spec.spec import Spec
from tuner.store.folder import StudyFolder
from tuner.store.store import Store
from tuner.training import trial
from tuner.training.context import Context

QUESTION = Spec.from_dict(
    {
        "space": {
            "unfrozen_layers": [0, 10],
            "learning_rate": {"min": 1e-3, "max": 1e-1, "sampling": "log"},
            "head_width": [0, 8],
            "head_init": "random",
            "head_features": "pooled",
        },
        "search": {
            "max_epochs": 4,
            "factor": 2,
            "batch_size": 4,
            "optimizer": "sgd",
            "schedule": "constant",
            "warmup_epochs": 0.0,
            "checkpoint": "best",
        },
        "confirm": {"seeds": 2, "folds": 2, "repeats": 1},
    }
)


CUTS = {"pooled": 1.0, "conv5_block2": 1.5, "conv5_block1": 2.0}


class Costless:
    """Stands in for `tuner.training.network.Network` and for its stepper."""

    trained_parameters = 8

    def __init__(self) -> None:
        self.stepper = self
        self.arrays: dict[str, np.ndarray] = {}
        self.rate = 0.0

    def reset(self, seed: int, configuration: str) -> None:
        draw = generator(seed, configuration, "head", "w")
        self.arrays = {"w": draw.normal(size=8).astype(np.float32), "optimizer/w": np.zeros(8, np.float32)}

    def load(self, state: dict[str, np.ndarray]) -> None:
        assert set(state) in ({"w", "optimizer/w"}, {"w"})
        self.arrays = {name: np.array(value) for name, value in state.items()}

    def state(self) -> dict[str, np.ndarray]:
        return {name: np.array(value) for name, value in self.arrays.items()}

    def weights(self, copied: bool = True) -> dict[str, np.ndarray]:
        return {"w": np.array(self.arrays["w"])}

    def set_rate(self, learning_rate: float, multiplier: float, layer_decay: float) -> None:
        self.rate = learning_rate

    def set_dropout(self, rate: float) -> None:
        return None

    def ema_weights(self) -> nullcontext[None]:
        return nullcontext()

    def decays(self, decay: float, multiplier: float, layer_decay: float) -> list[float]:
        return [decay]

    def seed_dropout(self, *names: int | str) -> None:
        return None

    def train(
        self,
        x: np.ndarray,
        y: np.ndarray,
        weights: np.ndarray,
        rows: int,
        decays: list[float],
        parts: int = 1,
        momentum: float = 0.0,
    ) -> tuple[float, float]:
        w, slot = self.arrays["w"], self.arrays["optimizer/w"]
        z = x @ w
        chance = 1 / (1 + np.exp(-z))
        slot[:] = 0.9 * slot + ((chance - y[:, 0]) * weights) @ x / rows
        w -= np.float32(self.rate) * slot
        loss = np.logaddexp(0, z) - y[:, 0] * z
        return float((loss * weights).sum()), float((((z > 0) == (y[:, 0] > 0.5)) * (weights > 0)).sum())

    def logits(self, x: np.ndarray) -> np.ndarray:
        return np.asarray((x @ self.arrays["w"])[:, None], dtype=np.float32)


class CostlessNetworks:
    def __init__(self) -> None:
        self.one = Costless()

    def get(self, *values: Any, **options: Any) -> Costless:
        return self.one


def context(root: Path, numerics: int = NUMERICS, question: Spec = QUESTION) -> Context:
    """Twelve images to train on, eight to validate and six to test, as eight numbers each."""
    draw = np.random.default_rng(7)
    labels = np.arange(26) % 2
    features = draw.normal(size=(26, 8)).astype(np.float32) + labels[:, None] * 0.7
    network = architecture(image_size=224)
    arrays = {cut: features.astype(np.float32) * size for cut, size in CUTS.items()}
    return Context(
        Features(arrays, (), means=dict.fromkeys(sets.read(sets.nested(network, 26)), arrays["conv5_block2"])),
        labels.astype(np.int64),
        np.arange(12),
        np.arange(12, 20),
        CostlessNetworks(),  # type: ignore[arg-type]
        2,
        setup.recipe(question, rules_of(numerics)),
        network,
        root / "checkpoints",
        np.arange(20, 26),
    )


def plan(store: Store, question: Spec, numerics: int = NUMERICS) -> Plan:
    """As a session makes it."""
    space = spaces.build(question, architecture(image_size=224))
    return setup.make_plan(question, space, store, Images(), rules_of(numerics), confirm=True)  # type: ignore[arg-type]


class Images:
    """Stands in for a `Dataset` where a plan is made."""

    labels = np.arange(26) % 2
    groups = tuple(range(26))

    def indices(self, split: str) -> np.ndarray:
        return {"train": np.arange(12), "val": np.arange(12, 20), "test": np.arange(20, 26)}[split]


Executed = Callable[[Context, Callable[[], bool]], Executor]


def run(
    root: Path,
    stop: threading.Event | None = None,
    question: Spec = QUESTION,
    executor: Executed = Inline,
    numerics: int = NUMERICS,
    clock: Callable[[], float] = time.perf_counter,
    confirm: bool = True,
    said: Callable[[Event], object] = lambda event: None,
) -> None:
    """Begins or goes on with the search in `root`, saving a checkpoint after every epoch. `clock`: what the time budget
    is counted on. `confirm`: whether the confirmation follows.
    """
    trial.SAVE_EVERY = 0.0
    folder, stop = StudyFolder(root), stop or threading.Event()
    with folder.locked(), Store(folder.database) as store:
        planned = plan(store, question, numerics)
        planned = planned if confirm else replace(planned, confirm=None)
        store.set_meta(spec=question.to_dict(), classes=["even", "odd"])
        splits = ["train"] * 12 + ["val"] * 8 + ["test"] * 6
        store.record_images(((f"{i}.png", s, i % 2, str(i), 9, 9) for i, s in enumerate(splits)), ())
        begun = store.begin_session("then", "here", os.getpid(), "costless", {})
        store.record_plan(planned.brackets, planned.draws, planned.frozen, question.search.hyperband_iterations)
        if grew(store, question.search.time_budget):
            store.leave_out(question.search.time_budget, {})
        own.make_private(folder.checkpoints)
        made, checkpoints = context(root, numerics, question), Checkpoints(folder.checkpoints)
        cost = CostModel(made.architecture, "frozen", made.features.arrays, 12, 8, 6)
        confirming = Confirming(store, made, checkpoints, cost)
        with deaths.watched(folder, store, said):
            known, run = facts.read(store, planned.rule), executor(made, stop.is_set)
            budget = Budget(question.search.time_budget, known.seconds, clock(), clock)
            Driver(planned, known, store, checkpoints, run, said, stop, confirming, cost, None, budget).run()
        store.update_session(begun, 0.0, "finished", {})
