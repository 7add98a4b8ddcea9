"""`python -m tuner.export.fresh REQUEST`: what an exported file says, in a process that knows nothing but the file.

The request is a JSON file: model (path), squares (an .npy of uint8 (n, side, side, 3)), photographs (paths, may be
none) and answers (where to write). The answers are an .npz with `squares` and `photographs`, float32 (n, classes) each,
and `contents`, the JSON text the model carries. The number of photographs done goes to standard output, a line each.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from tuner.backends import choosing
from tuner.export.reading import open_model
from tuner.images.decode import load_photograph

BATCH = 32


def main(request: Path) -> None:
    """Raises whatever is wrong with the model: the traceback on standard error ends with the reason."""
    asked = json.loads(request.read_text())
    reader = open_model(Path(asked["model"]))
    squares = np.load(asked["squares"], mmap_mode="r")
    near = [reader.probabilities(squares[i : i + BATCH]) for i in range(0, len(squares), BATCH)]
    far = np.empty((len(asked["photographs"]), len(reader.contents.classes)), np.float32)
    for i, path in enumerate(asked["photographs"]):
        far[i] = reader.probabilities(load_photograph(Path(path))[None])[0]
        sys.stdout.write(f"{i + 1}\n")
        sys.stdout.flush()
    contents = np.array(reader.contents.to_json())
    np.savez(asked["answers"], squares=np.concatenate(near), photographs=far, contents=contents)


if __name__ == "__main__":
    choosing.spare()
    main(Path(sys.argv[1]))
