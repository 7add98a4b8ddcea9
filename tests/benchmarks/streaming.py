"""Many photographs: seconds an image and peak memory of the feature pass and of an epoch, for few images and for many.

    python tests/benchmarks/streaming.py [--images 100,10000] [--image-size 224]

Made images (random bytes) and random weights in a process of its own for each number; features at the cuts of depths 0,
10, 20 and 32, then one epoch at depth 10 from the stored ones. Needs 1.2 MB of
disk an image in the temporary folder.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def main() -> None:
    if sys.argv[1:2] == ["--inside"]:
        inside(int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="100,10000")
    parser.add_argument("--image-size", type=int, default=224)
    o = parser.parse_args()
    print("| images | features, ms an image | peak MB | epoch at depth 10, ms an image | peak MB |")
    print("| --- | --- | --- | --- | --- |")
    for images in o.images.split(","):
        with tempfile.TemporaryDirectory(prefix="tlstudy-streaming-") as folder:
            command = [sys.executable, __file__, "--inside", images, str(o.image_size), folder]
            said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        print("| " + " | ".join(f"{v:.0f}" for v in json.loads(said.splitlines()[-1])) + " |", flush=True)


def inside(count: int, side: int, folder: Path) -> None:
    """Prints [images, ms, MB, ms, MB]."""
    import numpy as np

    from tuner.backbones.resnet50.backbone import ResNet50
    from tuner.backbones.weights import Weights
    from tuner.backends import backend
    from tuner.features import bank as features

    backend.start()
    from tuner.search.schedule import NEVER
    from tuner.spec.configuration import REFERENCE
    from tuner.spec.rules import NUMERICS, rules_of
    from tuner.store.ranking import Rule
    from tuner.training.context import Context, Recipe
    from tuner.training.network import Networks
    from tuner.training.trial import TrialSpec, train

    rng = np.random.default_rng(0)
    images = np.lib.format.open_memmap(folder / "images.npy", mode="w+", dtype=np.uint8, shape=(count, side, side, 3))
    for first in range(0, count, 100):
        images[first : first + 100] = rng.integers(0, 256, images[first : first + 100].shape, dtype=np.uint8)
    images.flush()
    del images
    images = np.load(folder / "images.npy", mmap_mode="r")
    weights = Weights("random", "benchmark", None, "benchmark")
    backbone = ResNet50(side, weights, folder, lambda: images[:64])
    wanted = [backbone.architecture.cut_for(depth, "frozen") for depth in (32, 20, 10, 0)]
    at: list[tuple[float, int]] = []
    stored = features.ensure(
        backbone,
        images,
        "benchmark",
        wanted=wanted,
        cache=folder,
        on_progress=lambda done, _: at.append((time.perf_counter(), done)),
    )
    (began, first), (ended, last) = at[0], at[-1]  # without the trace in the first batch
    numbers = [count, 1e3 * (ended - began) / (last - first), peak()]
    rows = np.arange(count)
    context = Context(
        features=stored,
        labels=rows % 2,
        train=rows,
        validation=rows[:100],
        networks=Networks(backbone, 2, "frozen", "adam", "float32"),
        classes=2,
        recipe=Recipe(0, 24, Rule(), False, "frozen", rules_of(NUMERICS)),
        architecture=backbone.architecture,
        checkpoints=folder,
    )
    values = dataclasses.replace(REFERENCE, unfrozen_layers=10)
    seconds = [done.row.seconds for done in train(TrialSpec("t", "c", values, 2, best_bar=NEVER), context)]
    print(json.dumps([*numbers, 1e3 * seconds[-1] / count, peak()]))


def peak() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 1024 / (1024 if sys.platform == "darwin" else 1)


if __name__ == "__main__":
    main()
