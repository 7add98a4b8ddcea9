"""`python -m tuner.export.serving MODEL`: reads a model in a process of its own, for `tuner.export.apart`, which may
end it at any time.

Messages are lines of JSON. It says `{"contents": TEXT}` once the model is open; then each `{"shape": SHAPE}` with that
many float32 behind it is images on standard input, and probabilities on standard output. `{"error": TEXT, "usage":
BOOL}` is its last word.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tuner.backends import choosing
from tuner.errors import TlstudyError, UsageError
from tuner.export.reading import open_model

_LINE = 8_000_000  # bytes: class names in JSON in JSON


def send(stream: BinaryIO, message: dict[str, Any], values: NDArray[np.float32] | None = None) -> None:
    """One message; `values` of any shape go behind it."""
    if values is not None:
        message = {**message, "shape": values.shape}
    stream.write(json.dumps(message).encode() + b"\n")
    if values is not None:
        stream.write(np.ascontiguousarray(values).data)
    stream.flush()


def receive(stream: BinaryIO, most: int | None = None) -> tuple[dict[str, Any], NDArray[np.float32] | None]:
    """The next message and what is behind it, of at most `most` numbers. Raises EOFError, and ValueError for anything
    that `send` did not write: who is at the other end need not be a friend.
    """
    line = stream.readline(_LINE)
    if not line.endswith(b"\n"):
        raise ValueError("a line without an end") if len(line) == _LINE else EOFError
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError("no message")
    if (shape := message.get("shape")) is None:
        return message, None
    if not isinstance(shape, list) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise ValueError("no shape")
    size = math.prod(shape)
    if most is not None and size > most:
        raise ValueError(f"numbers of shape {tuple(shape)}")
    data = stream.read(4 * size)
    if len(data) < 4 * size:
        raise EOFError
    return message, np.frombuffer(data, np.float32).reshape(shape)


def main(path: Path) -> None:
    """Answers until standard input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a runtime prints is no answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other process is asked too, and ends this one
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    try:
        reader = open_model(path)
        send(answers, {"contents": reader.contents.to_json()})
        while True:
            _, images = receive(sys.stdin.buffer)
            send(answers, {}, np.asarray(reader.run(images), np.float32) if images is not None else None)
    except EOFError:
        return
    except TlstudyError as error:
        send(answers, {"error": str(error), "usage": isinstance(error, UsageError)})
    except Exception as error:  # whatever a runtime raises about a file it cannot run
        reason = " ".join(str(error).split())[:200]
        said = f"{path}: failed on an image ({type(error).__name__}: {reason}). It is damaged, or was not exported by "
        send(answers, {"error": f"{said}tlstudy.", "usage": True})


def _end_with(parent: int) -> None:
    """Ends this process when its parent is no more: a model that never ends would not notice."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)  # the main thread is inside of a runtime, which no exception reaches


if __name__ == "__main__":
    choosing.spare()
    main(Path(sys.argv[1]))
