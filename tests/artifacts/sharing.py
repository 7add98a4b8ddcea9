"""A process that decodes images and computes their features into a cache which others use at the same time.

    python tests/artifacts/sharing.py NAME DATA MEETING [alone|meet|wait|die|no locks]

NAME is this process's; processes meet by files in the folder MEETING. `wait`: whoever works goes on when another has
said that it waits. `meet`, `no locks`: it goes on when two are at work. `die`: it is killed while it writes features.
Prints as JSON what came out and how often it worked for it. The images are really decoded; the backbone is a maximum.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

import numpy as np  # noqa: E402
from faults import caching  # noqa: E402

from tuner.artifacts.files import cache_root  # noqa: E402
from tuner.features import bank  # noqa: E402
from tuner.images import reading  # noqa: E402
from tuner.images.dataset import prepare  # noqa: E402
from tuner.spec.spec import DataSpec  # noqa: E402

PATIENCE = 60.0  # seconds after which a meeting that does not happen is given up, and the test fails


def main() -> None:
    name, data, meeting, mode = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
    counted = {"decoded": 0, "passes": 0}
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        (meeting / f"{len(said)} waits {name}").touch()

    def at_work(on: str, nth: int) -> None:
        (meeting / f"{on} {name}").touch()
        if mode != "alone" and mode != "die":
            expect(meeting, f"{nth} waits *" if mode == "wait" else f"{on} *", 1 if mode == "wait" else 2)

    def decoding(image: Any, real: Any = reading.decode) -> Any:
        counted["decoded"] += 1
        return real(image)

    def forward(missing: tuple[str, ...]) -> Any:
        def run(batch: np.ndarray) -> Any:
            counted["passes"] += 1
            at_work("features", 2)
            if mode == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            return caching.forward(missing)(batch)

        return run

    def without_locks(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    if mode == "no locks":
        fcntl.flock = without_locks  # type: ignore[assignment]
    reading.decode = decoding
    backbone = caching.stubbed(forward)
    spec = DataSpec(path=str(data), image_size=caching.SIDE)

    def progress(done: int, total: int) -> None:
        if not done:
            at_work("images", 1)

    found = prepare(spec, meeting, cache_root(), 0, progress, said=say)
    stored = bank.ensure(backbone, found.images, found.key, wanted=caching.WANTED, cache=cache_root(), said=say)
    arrays = {"images": found.images, **{cut: stored.arrays[cut] for cut in caching.WANTED}}
    digests = {key: hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest() for key, a in arrays.items()}
    empty = sum(int((~np.any(a.reshape(len(a), -1), axis=1)).sum()) for a in arrays.values())
    print(json.dumps({"process": os.getpid(), "arrays": digests, "rows of zeros": empty, "said": said, **counted}))


def expect(folder: Path, pattern: str, number: int) -> None:
    until = time.monotonic() + PATIENCE
    while len(list(folder.glob(pattern))) < number:
        assert time.monotonic() < until, f"nobody came: {pattern}"
        time.sleep(0.02)


if __name__ == "__main__":
    main()
