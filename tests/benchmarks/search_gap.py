"""What whole searches promise and keep, recipe by recipe: the figures that a fine-tuning recipe is judged by.

    python tests/benchmarks/search_gap.py --data DIR --weights FILE [--recipes plain,all,thorough]

For every fold of all labelled images a study of its own is searched and confirmed, the fold its validation images and
every other image its training images. For each recipe, means over the folds of:

- the claim: the winner's validation accuracy by the search, minus the mean of its fresh seeds (0 for an honest search);
- the winner minus the best frozen side, both confirmed, with Nadeau and Bengio's interval over the folds;
- the standard deviation of the winner's fresh seeds;
- how well rungs rank: Spearman's correlation, over the configurations that were trained to the end, of the validation
  loss at each rung's last epoch with that of the last epoch. Configurations that were dropped are not in it, so it is
  a lower estimate.

Recipes: "plain" (the tutorial's), "all" (recipe.py's techniques together), a preset, or KEY=VALUE with + between them.
Searches that have ended are kept in the JSON file; the same command again goes on.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import measuring
import numpy as np
import recipe
from recipe_findings import points

from tuner.artifacts.files import cache_root, write_atomically
from tuner.cli.options import assignments
from tuner.evidence.paired import corrected_resampled
from tuner.images.dataset import Dataset, prepare
from tuner.images.folds import stratified_folds
from tuner.spec.presets import PRESETS
from tuner.spec.spec import DataSpec, Spec
from tuner.store.options import place
from tuner.study import Study

Keys = dict[str, Any]


def main() -> None:
    o = options()
    data = DataSpec(path=str(place(o.data)), test_fraction=0.0, image_size=o.image_size)
    dataset = prepare(data, Path.cwd(), cache_root(), 0)
    fixed = {
        "data.image_size": o.image_size,
        "backbone.weights": o.weights if o.weights in ("imagenet", "random") else str(place(o.weights)),
        "space.unfrozen_layers": [int(part) for part in o.depths.split(",")],
        "space.head_width": [int(part) for part in o.widths.split(",")],
        "search.max_epochs": o.epochs,
        "confirm.seeds": o.seeds,
        "confirm.folds": 0,
    }
    searches: list[Keys] = []
    kept: Keys = json.loads(o.json.read_text(encoding="utf-8")) if o.json.exists() else {}
    rows = np.flatnonzero([record.split != "test" for record in dataset.records])
    folds = stratified_folds(dataset.labels[rows], np.array(dataset.groups)[rows], o.folds, 0, "search gap")
    with tempfile.TemporaryDirectory(prefix="tlstudy-gap-") as scratch:
        for fold in range(min(int(folds.max()) + 1, o.searches or o.folds)):
            images = split(dataset, rows, folds == fold, Path(scratch) / f"fold{fold}")
            for name in o.recipes.split(","):
                # As the recipe says it, but what all recipes share.
                keys = keys_of(name) | fixed | assignments(o.set) | {"search.seed": fold}
                known = json.dumps([dataset.key, o.folds, fold, keys], sort_keys=True, default=str)
                if known not in kept:
                    kept[known] = {"recipe": name, **search(images, Path(scratch) / f"{fold}-{len(kept)}", keys)}
                    o.json.parent.mkdir(parents=True, exist_ok=True)
                    write_atomically(o.json, lambda file: file.write(json.dumps(kept, indent=1).encode()))
                searches.append(kept[known])
                print(f"  fold {fold + 1}, {name}: {told(kept[known])}", flush=True)
    print("\n" + summary(searches))


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--recipes", default="plain,all")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--depths", default="0,10,20")
    parser.add_argument("--widths", default="0,64")
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--searches", type=int, help="folds that are searched (default: all)")
    parser.add_argument("--seeds", type=int, default=5, help="fresh seeds of the confirmation")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="keys of every recipe")
    parser.add_argument("--json", type=Path, default=Path("build/search_gap.json"), help="searches that have ended")
    return parser.parse_args()


def keys_of(name: str) -> Keys:
    """The keys that a recipe changes."""
    if name == "plain":
        return recipe.BASE
    if name == "all":
        return recipe.variants(recipe.TECHNIQUES, beside=False)[recipe.ALL]
    if name in PRESETS:
        return dict(PRESETS[name])
    return assignments(name.split("+"))


def split(dataset: Dataset, rows: np.ndarray, held: np.ndarray, folder: Path) -> Path:
    """A folder with copies of these images: those held in val/, the others in train/."""
    for row, out in zip(rows, held, strict=True):
        record = dataset.records[row]
        path, part = dataset.root / record.path, "val" if out else "train"
        target = folder / part / dataset.classes[record.label] / f"{row:05d}{path.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return folder


def search(images: Path, study: Path, keys: Mapping[str, Any]) -> Keys:
    """Searches and confirms one study; what it claimed and what was left of it."""
    began = time.perf_counter()
    done = Study.create(images, study, **keys).search()
    found, seconds = done.verdict, time.perf_counter() - began
    winner, sides = found.winner, (found.baseline, found.other_baseline)
    if winner is None or winner.searched is None or not winner.accuracies:
        sys.exit(f"{images}: nothing was confirmed ({found.sentence})")
    counts = done.results.study.counts
    return {
        "winner": {k: v for k, v in done.results.hyperparameters(winner.configuration).items() if k in vars(SPACE)},
        "verdict": found.kind,
        "claim": winner.searched.share,
        "confirmed": statistics.mean(winner.accuracies),
        "frozen": max(statistics.mean(side.accuracies) for side in sides if side is not None and side.accuracies),
        "spread": statistics.stdev(winner.accuracies) if len(winner.accuracies) > 1 else 0.0,
        "ranks": ranks(done),
        "out": sum(counts["val"]),
        "in": sum(counts["train"]),
        "seconds": seconds,
    }


def ranks(study: Study) -> dict[str, float]:
    """Spearman's correlation of the validation loss at each rung's last epoch with that of the last epoch, by rung."""
    epochs = study.epochs[study.epochs["kind"].isin(("search", "baseline"))]
    losses = epochs.pivot_table(index="configuration", columns="epoch", values="val_loss")
    last = study.question.search.max_epochs
    if last not in losses:
        return {}
    losses = losses.dropna(subset=[last])
    rungs = sorted({epoch for bracket in study.results.study.plan for epoch in bracket.epochs if epoch < last})
    # Pearson's of the ranks is Spearman's.
    return {str(rung): float(losses[rung].rank().corr(losses[last].rank())) for rung in rungs if rung in losses}


def told(found: Keys) -> str:
    """One search in a line."""
    return (
        f"claimed {100 * found['claim']:.1f} %, confirmed {100 * found['confirmed']:.1f}, best frozen side "
        f"{100 * found['frozen']:.1f}, {found['verdict']}, {found['seconds']:.0f} s"
    )


def summary(searches: list[Keys]) -> str:
    """A row a recipe, in Markdown."""
    rows = []
    for name in dict.fromkeys(found["recipe"] for found in searches):
        mine = [found for found in searches if found["recipe"] == name]
        column = {key: np.array([found[key] for found in mine]) for key in NUMBERS}
        over = corrected_resampled(column["confirmed"] - column["frozen"], column["out"], column["in"])
        each: dict[str, list[float]] = {}
        for rung, value in (item for found in mine for item in found["ranks"].items()):
            each.setdefault(rung, []).extend([value] * bool(np.isfinite(value)))
        told_ranks = ", ".join(f"{statistics.mean(v):.2f} at epoch {rung}" for rung, v in each.items() if v)
        gap, unfrozen = column["claim"] - column["confirmed"], [bool(f["winner"]["unfrozen_layers"]) for f in mine]
        percent = (f"{100 * column[key].mean():.1f}" for key in ("claim", "confirmed", "frozen"))
        ends = points((over.difference, over.low, over.high))
        spread, seconds = f"{100 * column['spread'].mean():.1f}", f"{column['seconds'].mean():.0f}"
        counts = f"{sum(unfrozen)} of {len(mine)}"
        rows.append([name, *percent, f"{100 * gap.mean():+.1f}", ends, spread, told_ranks, counts, seconds])
    return measuring.table(HEAD, rows)


SPACE = Spec().space
NUMBERS = ("claim", "confirmed", "frozen", "spread", "out", "in", "seconds")
HEAD = (
    "recipe",
    "claimed %",
    "confirmed %",
    "best frozen %",
    "claim minus confirmed",
    "winner minus frozen",
    "seeds' SD",
    "rungs' rank correlation",
    "winners unfrozen",
    "s",
)


if __name__ == "__main__":
    main()
