"""`python -m tuner.export.fresh FOLDER...`: what exported files say, in a process that knows nothing but the files.

Each folder holds `new/` with the model alone, `squares.npy`, uint8 (n, side, side, 3), and `files.json`, paths of
images, may be none. It gets `answers.npz`: `squares` and `photographs`, float32 (n, classes) each, and `contents`,
the JSON text the model carries. The number of files done, of all folders together, goes to standard output.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tuner.backends import choosing
from tuner.export.reading import open_model
from tuner.images.decode import load_photograph

BATCH = 32


def main(folders: Iterable[Path]) -> None:
    """Raises whatever is wrong with a model: the traceback on standard error ends with the reason, and its folder and
    those after it have no answers.
    """
    done = 0
    for folder in folders:
        reader = open_model(next((folder / "new").iterdir()))
        squares = np.load(folder / "squares.npy", mmap_mode="r")
        near = [reader.probabilities(squares[i : i + BATCH]) for i in range(0, len(squares), BATCH)]
        files = json.loads((folder / "files.json").read_text())
        far = np.empty((len(files), len(reader.contents.classes)), np.float32)
        for i, path in enumerate(files):
            far[i] = reader.probabilities(load_photograph(Path(path))[None])[0]
            done += 1
            sys.stdout.write(f"{done}\n")
            sys.stdout.flush()
        contents = np.array(reader.contents.to_json())
        np.savez(folder / "answers.npz", squares=np.concatenate(near), photographs=far, contents=contents)


if __name__ == "__main__":
    choosing.spare()
    main(map(Path, sys.argv[1:]))
