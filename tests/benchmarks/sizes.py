"""What many images take before any is decoded: which look the same, and which files are new. Made hashes, tiny files.

python tests/benchmarks/sizes.py --images 100000
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tuner.images import duplicates, near
from tuner.images.hashing import RACY, hash_files
from tuner.images.scan import scan

SCENES = {
    "all different": lambda n: (n, 0.0),
    "films of 1,000 frames": lambda n: (max(1, n // 1000), 0.04),
    "one camera that stands still": lambda n: (1, 0.04),
    "X-rays, alike but not the same": lambda n: (1, 0.12),
}
"""How many different images there are, and the share of bits in which a frame differs from its own."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    number, random = parser.parse_args().images, np.random.default_rng(0)
    for name, of in SCENES.items():
        scenes, flips = of(number)
        bits = (random.random((scenes, duplicates.BITS)) < 0.5)[np.arange(number) % scenes]
        for first in range(0, number, 10_000):
            bits[first : first + 10_000] ^= random.random(bits[first : first + 10_000].shape) < flips
        hashes = np.packbits(bits, axis=1)
        with timed(f"{number:,} hashes, {name}"):
            near.forest(hashes, duplicates.ALIKE)
    with tempfile.TemporaryDirectory() as place:
        files(Path(place) / "photos", number)
        time.sleep(RACY / 1e9 + 0.5)  # younger files are not believed
        with timed(f"{number:,} files listed"):
            found = scan(Path(place) / "photos")
        for what in ("read", "known"):
            with timed(f"{number:,} files {what}"):
                hash_files(found.root, [file.path for file in found.files], Path(place) / "cache")


def files(folder: Path, number: int) -> None:
    for i in range(number):
        path = folder / f"class {i % 10}" / f"{i}.jpg"
        if i < 10:
            path.parent.mkdir(parents=True)
        path.write_bytes(b"%1000d" % i)


@contextmanager
def timed(what: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"{what}: {time.perf_counter() - began:.1f} s, at most {peak:.0f} MB so far", flush=True)


if __name__ == "__main__":
    main()
