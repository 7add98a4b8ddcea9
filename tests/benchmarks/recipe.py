"""What each technique of the fine-tuning recipe is worth, alone and beside the others, by repeated cross-validation.

    python tests/benchmarks/recipe.py --data DIR --weights FILE [--quick] [--json FILE] [--figure FILE.png]

Every variant of the recipe trains the same configurations (depths x rates x widths) on the same folds of all labelled
images, train and validation together, from the same seeds; each image is predicted by the fold that it was left out of.
"Alone" is the plain recipe with the technique minus the plain recipe; "beside the others" is everything together minus
everything but the technique. Features are computed once for all. Finished cells are kept in the JSON file: the same
command again goes on, with more repeats, seeds, rates or techniques where they are asked for. What the figures mean is
written in recipe_findings.py.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import harder
import measuring
import numpy as np
import recipe_findings
from recipe_findings import ALL, COLUMNS, DEFAULTS, PLAIN, REGRESSIONS, Measured

from tuner.errors import TlstudyError
from tuner.spec.configuration import Configuration
from tuner.spec.spec import Spec

Keys = dict[str, Any]

BASE: Keys = {
    "space.head_init": "random",
    "space.head_features": "pooled",
    "search.schedule": "constant",
    "search.warmup_epochs": 0.0,
    "search.checkpoint": "best",
}
"""The plain recipe, whatever the defaults are."""
TODAY: Keys = {key: Spec().to_dict()[section][name] for key in BASE for section, name in [key.split(".")]}
"""The recipe of a study that changes none of these."""
TECHNIQUES: dict[str, Keys] = {
    "linear probe first": {"space.head_init": "linear_probe"},
    "head over several cuts": {"space.head_features": "several"},
    "warm-up and cosine": {"search.schedule": "cosine", "search.warmup_epochs": 1.0},
    "averaged weights 0.9": {"search.ema": 0.9},
    "last epoch counts": {"search.checkpoint": "last"},
    "layer decay 0.7": {"space.layer_decay": 0.7},
    "weight decay 0.05": {"space.weight_decay": 0.05},
    "flips at test time": {"search.tta": "flip"},
    "views: flip": {"space.augmentation": "flip"},
    "views: strong": {"space.augmentation": "strong"},
    "views: light": {"space.augmentation": "light"},
    "mixup 0.2": {"space.mixup": 0.2},
    "label smoothing 0.1": {"space.label_smoothing": 0.1},
}
"""Each is a few keys of study.toml. Of those that change the same key the last one stands in "all together"."""
GRID = ("unfrozen_layers", "learning_rate", "head_width")
FOR_LOGISTIC = ("space.augmentation", "search.tta")
"""What means something for the regressions."""
QUICK = {"depths": "10", "rates": "3e-4", "widths": "0", "repeats": 1, "image_size": 128, "beside": False}


def main() -> None:
    o = options()
    with tempfile.TemporaryDirectory(prefix="tlstudy-recipe-") as scratch:
        if not o.data:
            o.data = str(Path(scratch) / "meadow")
            harder.draw(Path(o.data))
        try:
            measure(o, Path(scratch))
        except TlstudyError as error:
            sys.exit(str(error))


def measure(o: argparse.Namespace, scratch: Path) -> None:
    """Trains what is missing, then tells what all of it says."""
    techniques = {n: k for n, k in TECHNIQUES.items() if not o.only or n.startswith(tuple(o.only.split(",")))}
    recipes = variants(techniques, o.beside)
    bench = Bench(o, recipes)
    kept = Kept(o.json, bench.question)
    run(bench, kept, scratch, o)
    measured = bench.measured(kept.units, o)
    if not measured.rounds:
        sys.exit("No round has ended in all variants yet; the same command with more --minutes goes on.")
    found = recipe_findings.findings(measured, pairs(techniques, recipes))
    kept.write(found)
    title = f"{Path(o.data).name}, {o.image_size} px, {o.epochs} epochs, {len(bench.cells)} configurations"
    recipe_findings.show(found, f"{title}, weights {Path(o.weights).name}, depths {o.depths}, rates {o.rates}")
    if o.figure:
        recipe_findings.draw(found, title, o.figure)
        print(f"figure: {o.figure}")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder or .zip of labelled images; test/ stays unseen (default: drawn ones)")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--depths", default="0,10,20", help="unfrozen layers")
    parser.add_argument("--rates", default="1e-4,3e-4,1e-3")
    parser.add_argument("--widths", default="0,64", help="of the head's hidden layer; 0: none")
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=2, help="how often the folds are drawn anew")
    parser.add_argument("--seeds", type=int, default=2, help="trainings from other seeds on the same folds")
    parser.add_argument("--only", help='techniques by the beginnings of their names, such as "linear,warm"')
    parser.add_argument("--alone", dest="beside", action="store_false", help="nothing beside the others")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="keys of every variant")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no round begins that would end later")
    parser.add_argument("--quick", action="store_true", help="one configuration at 128 pixels, one repeat, only alone")
    parser.add_argument("--json", type=Path, default=Path("build/recipe.json"), help="finished cells and the findings")
    parser.add_argument("--figure", type=Path, help="a PNG")
    if parser.parse_known_args()[0].quick:
        parser.set_defaults(**QUICK)
    return parser.parse_args()


# ---- variants ----


def variants(techniques: Mapping[str, Keys], beside: bool) -> dict[str, Keys]:
    """The keys of every variant by its name, no two alike."""
    together = _together(techniques)
    found: dict[str, Keys] = {PLAIN: {}, DEFAULTS: TODAY, ALL: together} | {
        f"only {name}": keys for name, keys in techniques.items()
    }
    for name, keys in techniques.items() if beside else ():
        found |= {f"all, {name}": together | keys, f"all without {name}": _without(together, keys)}
    names = {_text(keys): name for name, keys in reversed(found.items())}  # of equal ones the first
    return {name: found[name] for name in found if name in names.values()}


def pairs(techniques: Mapping[str, Keys], recipes: Mapping[str, Keys]) -> dict[str, dict[str, tuple[str, str]]]:
    """{"alone" and "beside the others": {technique: (variant with it, without it)}}, those that were trained."""
    names = {_text(keys): name for name, keys in recipes.items()}
    together = _together(techniques)
    asked = {
        "alone": {name: (keys, {}) for name, keys in [*techniques.items(), (DEFAULTS, TODAY), (ALL, together)]},
        "beside the others": {name: (together | keys, _without(together, keys)) for name, keys in techniques.items()},
    }
    return {
        where: {
            n: (names[_text(a)], names[_text(b)]) for n, (a, b) in each.items() if {_text(a), _text(b)} <= set(names)
        }
        for where, each in asked.items()
    }


def _together(techniques: Mapping[str, Keys]) -> Keys:
    return {key: value for keys in techniques.values() for key, value in keys.items()}


def _without(together: Keys, keys: Keys) -> Keys:
    return {key: value for key, value in together.items() if key not in keys}


def _text(keys: Any) -> str:
    return json.dumps(keys, sort_keys=True)


# ---- training ----


@dataclass(frozen=True)
class Unit:
    """One configuration under one variant: all folds of one repeat, from one seed."""

    variant: str
    cell: Configuration
    repeat: int
    seed: int


class Bench:
    """Images, features for every variant, and the contexts that trials run in."""

    def __init__(self, o: argparse.Namespace, recipes: Mapping[str, Keys]) -> None:
        from tuner.backends import backend

        backend.start()
        from tuner.backbones import weights
        from tuner.backbones.architecture import architecture
        from tuner.cli.options import assignments
        from tuner.search import session, setup
        from tuner.search import space as spaces
        from tuner.spec.rules import NUMERICS, rules_of
        from tuner.store.folder import StudyFolder
        from tuner.store.options import from_here, place

        here = StudyFolder(Path.cwd())
        grid = {"unfrozen_layers": (o.depths, int), "learning_rate": (o.rates, float), "head_width": (o.widths, int)}
        keys = {f"space.{name}": [kind(part) for part in text.split(",")] for name, (text, kind) in grid.items()}
        keys |= {"data.path": str(place(o.data)), "data.image_size": o.image_size, "backbone.weights": o.weights}
        keys["data.test_fraction"] = 0.0  # all images of unsplit data
        keys["confirm.folds"] = o.folds  # validation images are trained on too, and need views
        self.base = Spec().override(from_here(BASE | keys | {"search.max_epochs": o.epochs} | assignments(o.set)))
        self.recipes, self.architecture = recipes, architecture(image_size=o.image_size)
        self.cells = [Configuration(*values) for values in itertools.product(*(keys[f"space.{n}"] for n in GRID))]
        self.dataset = setup.images(self.base, here)
        wanted, _ = weights.find(self.base.backbone.weights, here.root, self.base.search.seed, self.dataset.key)
        self.backbone = setup.load_backbone(self.base, self.dataset, wanted)
        # What any variant needs, so that no feature is computed twice.
        every = {key: [k[key] for k in recipes.values() if key in k] for key in FOR_LOGISTIC}
        views = list(dict.fromkeys(["none", *every["space.augmentation"]]))
        whole = self.base.override({"space.augmentation": views, "search.tta": (every["search.tta"] or ["none"])[0]})
        space = spaces.build(whole, self.architecture)
        phases, stop = session.Phases(lambda event: None), threading.Event()
        with phases.phase("features"):
            shared = (whole, self.architecture, self.backbone, self.dataset, space)
            self.stored, _ = session._features(*shared, rules_of(NUMERICS), phases, stop)
        self.feature_seconds = phases.seconds["features"]
        self._networks: dict[str, Any] = {}
        shared = {k: v for k, v in self.base.to_dict()["search"].items() if k != "feature_budget_gb"}
        self.question = {
            "images": self.dataset.key,
            "weights": wanted.key,
            "batch_norm": self.base.backbone.batch_norm,
            "search": shared,
            "folds": o.folds,
            "code": _digest_of_code(),
        }

    def context(self, variant: str, checkpoints: Path) -> Any:
        """What the variant's trials run in; networks that are made alike are shared."""
        from tuner.search import setup
        from tuner.search import space as spaces
        from tuner.spec.rules import NUMERICS, rules_of

        spec = self.base.override(self.recipes[variant])
        made = setup.compiled(spec, spaces.build(spec, self.architecture), self.backbone, len(self.dataset.classes))
        alike = repr(sorted((k, v) for k, v in vars(made).items() if isinstance(v, (str, int, float, tuple))))
        networks = self._networks.setdefault(alike, made)
        rules = rules_of(NUMERICS)
        return setup.context(spec, rules, self.dataset, networks=networks, stored=self.stored, checkpoints=checkpoints)

    def values(self, variant: str, cell: Configuration) -> Configuration:
        """The hyperparameters of a cell under a variant."""
        if cell in REGRESSIONS:
            return replace(cell, augmentation=self.recipes[variant].get("space.augmentation", "none"))
        space = vars(self.base.override(self.recipes[variant]).space)
        return Configuration.from_dict(space | {name: getattr(cell, name) for name in GRID})

    def round(self, repeat: int, seed: int) -> Iterator[Unit]:
        """One repeat from one seed: every configuration under every variant."""
        for variant, keys in self.recipes.items():
            if variant == PLAIN or set(keys) & set(FOR_LOGISTIC):
                yield from (Unit(variant, cell, repeat, 0) for cell in REGRESSIONS)  # they have no seed
            yield from (Unit(variant, cell, repeat, seed) for cell in self.cells)

    def name(self, unit: Unit) -> str:
        """What a unit is kept under: values alone, so that it stays known when the grid or the techniques change."""
        logistic, keys = unit.cell in REGRESSIONS, self.recipes[unit.variant]
        counts = {k: v for k, v in keys.items() if (k in FOR_LOGISTIC if logistic else not k.startswith("space."))}
        return _text([self.values(unit.variant, unit.cell).to_dict(), counts, unit.repeat, unit.seed])

    def train(self, context: Any, unit: Unit, folds: int) -> list[list[float]]:
        """A row of `COLUMNS` for each fold."""
        from tuner.search.schedule import NEVER
        from tuner.training import trial
        from tuner.training.subset import Subset

        logistic, spec = unit.cell in REGRESSIONS, self.base.override(self.recipes[unit.variant])
        found = []
        for fold in range(folds):
            subset = Subset("fold", folds, unit.repeat, fold)
            rows = context.rows(subset)
            asked = trial.TrialSpec(
                id="recipe",
                configuration=f"recipe-{unit.seed}-{unit.repeat}-{fold}",  # the same draws under every variant
                values=self.values(unit.variant, unit.cell),
                last_epoch=1 if logistic else spec.search.max_epochs,
                subset=subset,
                best_bar=NEVER,
                fixed=spec.search.checkpoint == "last" and not logistic,
            )
            result = ended(trial.train(asked, context))
            labels, classes = self.dataset.labels[rows.held_out], len(self.dataset.classes)
            # A training that failed predicts nothing: all classes alike.
            chances = np.full((len(labels), classes), 1 / classes) if result.held_out is None else result.held_out
            failed = float(result.held_out is None)
            figures = [len(labels), len(rows.train), *scores(chances, labels), result.seconds, failed]
            found.append([round(float(figure), 6) for figure in figures])
        return found

    def measured(self, units: Mapping[str, Any], o: argparse.Namespace) -> Measured:
        """The rounds that have ended for every variant, as arrays."""
        every = list(itertools.product(range(o.repeats), range(o.seeds)))
        rounds = [at for at in every if all(self.name(unit) in units for unit in self.round(*at))]
        found: dict[tuple[str, Configuration], list[Any]] = {}
        for at in rounds:
            for unit in self.round(*at):
                found.setdefault((unit.variant, unit.cell), []).append(units[self.name(unit)])
        return Measured(rounds, {key: np.array(rows, np.float64) for key, rows in found.items()})


def run(bench: Bench, kept: Kept, scratch: Path, o: argparse.Namespace) -> None:
    """Trains what is not kept yet, round by round."""
    print(
        f"{len(bench.recipes)} variants x {len(bench.cells)} configurations x {o.folds} folds, {o.repeats} repeats x "
        f"{o.seeds} seeds, {o.epochs} epochs; features took {bench.feature_seconds:.0f} s",
        flush=True,
    )
    contexts = {variant: bench.context(variant, scratch) for variant in bench.recipes}
    began, longest = time.perf_counter(), 0.0
    for seed, repeat in itertools.product(range(o.seeds), range(o.repeats)):
        started = time.perf_counter()
        if started - began + longest > 60 * o.minutes:
            print(f"  out of minutes: repeat {repeat + 1} from seed {seed + 1} and what follows is left out")
            return
        left = [unit for unit in bench.round(repeat, seed) if bench.name(unit) not in kept.units]
        for number, unit in enumerate(left):
            if (name := bench.name(unit)) not in kept.units:  # variants share the regressions
                kept.units[name] = bench.train(contexts[unit.variant], unit, o.folds)
            kept.write_now_and_then()
            tell(f"repeat {repeat + 1}, seed {seed + 1}", number + 1, len(left), time.perf_counter() - started)
        kept.write()
        longest = max(longest, time.perf_counter() - started)


def tell(what: str, done: int, total: int, seconds: float) -> None:
    """Progress: at the tenths of a round, and what is left of it."""
    if done == 1 or done == total or done * 10 // total > (done - 1) * 10 // total:
        left = seconds / done * (total - done)
        print(f"  {what}: {done} of {total}, {seconds:.0f} s, about {left:.0f} s left", flush=True)


def ended(training: Any) -> Any:
    """What a trial returns when all its epochs are trained."""
    while True:
        try:
            next(training)
        except StopIteration as end:
            return end.value


def scores(chances: np.ndarray, labels: np.ndarray) -> tuple[float, float, float]:
    """Accuracy, Brier score (summed over classes) and log-loss of class probabilities (n, classes)."""
    truth = np.eye(chances.shape[1])[labels]
    right = float((chances.argmax(axis=1) == labels).mean())
    loss = -np.log(np.clip(chances[np.arange(len(labels)), labels].astype(np.float64), 1e-7, None))
    return right, float(((chances - truth) ** 2).sum(axis=1).mean()), float(loss.mean())


def _digest_of_code() -> str:
    """Cells that other code trained are not mixed with today's."""
    rooms = [measuring.ROOT / "tuner" / room for room in ("images", "backends", "backbones", "features", "training")]
    files = sorted(path for room in rooms for path in room.rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


class Kept:
    """The finished cells, in a JSON file that is always whole."""

    def __init__(self, file: Path, question: dict[str, Any]) -> None:
        self.file, self.question, self.units = file, json.loads(json.dumps(question)), dict[str, Any]()
        self._written = time.perf_counter()
        if not file.exists():
            return
        found = json.loads(file.read_text(encoding="utf-8"))
        if other := [k for k, v in self.question.items() if found.get("question", {}).get(k) != v]:
            sys.exit(
                f"{file}: found cells of another question ({', '.join(other)} differ), expected this one. "
                "Keep these in a file of their own: --json FILE"
            )
        self.units = found["units"]

    def write(self, found: Any = None) -> None:
        from tuner.artifacts.files import write_atomically

        parts = {"columns": COLUMNS, "question": self.question, "findings": found, "units": self.units}
        text = json.dumps(parts | {"versions": measuring.versions()}) + "\n"
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.file, lambda file: file.write(text.encode()))
        self._written = time.perf_counter()

    def write_now_and_then(self) -> None:
        if time.perf_counter() - self._written > 10:
            self.write()


if __name__ == "__main__":
    main()
