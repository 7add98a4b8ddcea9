"""What every room's tests share: a cache of their own, one small ResNet-50, one finished tiny study.

Nothing here imports Keras before a test asks for a fixture that needs it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from image_files import pixels
from once import once

_FOLDER = pytest.StashKey[str]()
_HELD = pytest.StashKey[int]()
LARGE = 500_000_000
"""Bytes by which a test process grows before it looks for garbage after a test."""


def pytest_configure(config: pytest.Config) -> None:
    """The cache of the whole session, subprocesses and both of xdist's workers included, is a temporary folder: never
    the user's own."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
        # Started in the background of a shell: processes that tests interrupt would inherit the deaf ear.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):  # a worker inherits its controller's
        made = tempfile.mkdtemp(prefix="tlstudy-tests-")
        config.stash[_FOLDER] = made
        os.environ["TLSTUDY_CACHE"] = str(Path(made) / "cache")
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(Path(made) / "hypothesis")
    # Traced networks are millions of objects that stay: looking through them again and again took a tenth of the time.
    gc.set_threshold(200_000, 20, 1_000)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    settings.register_profile("tlstudy", deadline=None, derandomize=True, database=None, print_blob=False)
    settings.load_profile("tlstudy")


def pytest_unconfigure(config: pytest.Config) -> None:
    if _FOLDER in config.stash:
        shutil.rmtree(config.stash[_FOLDER], ignore_errors=True)


LONGEST = (
    "test_exported_file.py",
    "test_trial.py",
    "test_weights.py",
    "test_tutorial.py",
    "test_graph.py",
    "test_lean.py",
    "test_every_write.py",
    "test_torture.py",
    "test_killed.py",
    "test_augmented.py",
    "test_budget.py",
    "test_schedule.py",
    "test_cli_show.py",
    "test_coverage.py",
    "test_deterministic.py",
    "test_cli_search.py",
    "test_cli_errors.py",
    "test_figures.py",
    "test_confirm.py",
    "test_loop.py",
    "test_planning.py",
    "test_features.py",
    "test_resnet.py",
    "test_features_of_views.py",
    "test_other_objectives.py",
    "test_head_features.py",
    "test_logistic.py",
    "test_selection.py",
    "test_study.py",
    "test_tables.py",
    "test_logistic_baseline.py",
    "test_recipe.py",
    "test_waiting.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest begin first: of two workers neither then ends long before the other."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))


def resident() -> int:
    """Bytes of this process in memory; 0 where nobody says."""
    said = Path("/proc/self/statm")
    return int(said.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if said.exists() else 0


@pytest.fixture(autouse=True)
def _memory_bounded(request: pytest.FixtureRequest) -> Iterator[None]:
    """Old networks go, and what they held goes back to the system, after a test by which the process has grown."""
    yield
    held = request.config.stash
    if resident() > held.setdefault(_HELD, 0) + LARGE:
        gc.collect()
        if not held[_HELD]:
            gc.freeze()  # what is imported is not looked through again
        with contextlib.suppress(AttributeError, OSError):  # of the GNU C library
            ctypes.CDLL(None).malloc_trim(0)
        held[_HELD] = resident()


@pytest.fixture(scope="session")
def cache() -> Path:
    return Path(os.environ["TLSTUDY_CACHE"])


SIDE = 48
"""Small, and odd on the way: conv3 has 6 x 6 activations, conv4 3 x 3, conv5 2 x 2."""


@pytest.fixture(scope="session")
def squares() -> np.ndarray:
    """uint8 (37, 48, 48, 3): all different, and more than one feature batch, the last one not full."""
    return np.stack([pixels(seed, SIDE, SIDE) for seed in range(37)])


@pytest.fixture(scope="session")
def backbone(squares: np.ndarray, cache: Path) -> Any:
    """The product's backbone at 48 pixels with calibrated random weights."""
    from tuner.backbones.resnet50.backbone import ResNet50
    from tuner.backbones.weights import Weights

    weights = Weights("random", "random", None, "random-tests")
    return ResNet50(SIDE, weights, cache, lambda: squares[:32])


@pytest.fixture(scope="session")
def bgr_weights(backbone: Any) -> list[np.ndarray]:
    """The backbone's numbers as stock Keras has them: the first kernel takes BGR."""
    values = [np.array(v) for v in backbone.stock.get_weights()]
    values[0] = values[0][:, :, ::-1, :]
    return values


@pytest.fixture(scope="session")
def stock_resnet(bgr_weights: list[np.ndarray]) -> Callable[[], Any]:
    """Makes stock `keras.applications.ResNet50(include_top=False)` with the backbone's numbers; takes
    `preprocess_input`'s BGR."""

    def make() -> Any:
        import keras

        model = keras.applications.ResNet50(
            weights=None, include_top=False, input_tensor=keras.Input((SIDE, SIDE, 3), name="input_layer")
        )
        model.set_weights(bgr_weights)
        return model

    return make


@pytest.fixture(scope="session")
def preprocessed(squares: np.ndarray, backbone: Any) -> np.ndarray:
    """The squares as Keras's own preprocessing gives them: float32, BGR, mean subtracted."""
    assert backbone.image_size == SIDE  # the backend is started by now
    import keras

    return np.asarray(keras.applications.resnet.preprocess_input(squares.astype(np.float32)), np.float32)


@pytest.fixture(scope="session")
def context_of(backbone: Any, squares: np.ndarray, cache: Path) -> Callable[..., Any]:
    """Makes `Context`s over the squares, 26 to train on and 11 to validate, that write to `folder`. Further options are
    the recipe's. Networks and features are kept, one a setting, so that networks are traced once."""
    made: dict[tuple[Any, ...], Any] = {}

    def make(
        folder: Path,
        *,
        classes: int = 2,
        batch_norm: str = "frozen",
        optimizer: str = "adam",
        precision: str = "float32",
        cuts: tuple[str, ...] = ("conv5_block2", "pooled"),
        head_widths: tuple[int, ...] = (0, 8, 16),
        layered: bool = False,
        **recipe: Any,
    ) -> Any:
        from tuner.features import bank as features
        from tuner.features import sets
        from tuner.spec.rules import NUMERICS, rules_of
        from tuner.store.ranking import Rule
        from tuner.training.context import Context, Recipe
        from tuner.training.network import Networks

        averaged = recipe.get("ema", 0.0) > 0
        key = (classes, batch_norm, optimizer, precision, cuts, head_widths, layered, averaged)
        if key not in made:
            means = sets.read(sets.nested(backbone.architecture, len(squares)))
            stored = features.ensure(backbone, squares, "squares", wanted=cuts, cache=cache, means=means)
            networks = Networks(
                backbone,
                classes,
                batch_norm,
                optimizer,
                precision,
                head_widths,
                layered=layered,
                averaged=averaged,
            )
            rows = np.arange(len(squares))
            plain = Recipe(0, 10, Rule(), False, batch_norm, rules_of(NUMERICS))
            made[key] = Context(
                features=stored,
                labels=rows * 7 % 10 % classes,
                train=rows[:26],
                validation=rows[26:],
                networks=networks,
                classes=classes,
                recipe=plain,
                architecture=backbone.architecture,
                checkpoints=folder,
            )
        folder.mkdir(exist_ok=True)
        return replace(made[key], checkpoints=folder, recipe=replace(made[key].recipe, **recipe))

    return make


@pytest.fixture(scope="session")
def finished() -> Any:
    """A tiny study that a search has finished: 10 photographs to train on, 8 to validate, depths 0 and 10, 3 epochs.

    Look, don't touch: copy its folder to change anything.
    """
    from search.studies import make, search

    from tuner.store.folder import StudyFolder

    return StudyFolder(once("finished", lambda folder: search(make(folder))))


@pytest.fixture(scope="session")
def several() -> Any:
    """A tiny study whose baseline is regression on several cuts. Look, don't touch."""
    from several_cuts import make, searched

    from tuner.store.folder import StudyFolder

    return StudyFolder(once("several", lambda folder: searched(make(folder))))
