"""Where weights come from: every good file gives the same network, every bad one is named with what is expected."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tuner.backbones import weights
from tuner.backbones.resnet50 import numbers
from tuner.backbones.resnet50.backbone import ResNet50
from tuner.errors import WeightsError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def files(stock_resnet: Callable[[], Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The backbone's numbers as Keras itself writes them: its two current formats and its two legacy ones."""
    import h5py
    from keras.src.legacy.saving import legacy_h5_format

    place, model = tmp_path_factory.mktemp("weights"), stock_resnet()
    model.save_weights(place / "current.weights.h5")
    model.save(place / "whole.keras")
    model.save(place / "legacy.h5")
    with h5py.File(place / weights.NOTOP, "w") as file:  # as the ImageNet file Keras downloads
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    return place


@pytest.fixture(scope="module")
def network(backbone: Any) -> Any:
    """Stock Keras's, for any file to be loaded into."""
    import keras

    return keras.applications.ResNet50(weights=None, include_top=False, input_shape=backbone.stock.input_shape[1:])


def from_file(path: Path, cache: Path, side: int = 48) -> Any:
    """The product's backbone with this file in it."""
    found, reasons = weights.find((str(path),), path.parent, 0, "photographs")
    assert reasons == [] and found.kind == "file" and found.pretrained and found.name == path.name
    return ResNet50(side, found, cache, lambda: pytest.fail("a file needs no calibration")).stock


@pytest.mark.parametrize("name", ["current.weights.h5", "whole.keras", "legacy.h5", weights.NOTOP])
def test_every_format_gives_the_same_network(name: str, files: Path, backbone: Any, tmp_path: Path) -> None:
    for ours, wanted in zip(from_file(files / name, tmp_path).get_weights(), backbone.stock.get_weights(), strict=True):
        assert np.array_equal(ours, wanted)
    assert not list(tmp_path.iterdir()), "only random weights are cached"


@pytest.mark.parametrize("name", ["current.weights.h5", "whole.keras", "legacy.h5", weights.NOTOP])
def test_the_numbers_are_those_that_keras_reads(name: str, files: Path, network: Any) -> None:
    """Read without a network, bit for bit what Keras puts into one; beside other work just the same."""
    numbers.begin(files / name)
    found, again = numbers.read(files / name), numbers.read(files / name)
    assert found is not None and again is not None
    for variable in network.variables:
        variable.assign(np.zeros(variable.shape, np.float32))
    weights._load_file(network, files / name)
    for layer, arrays in found.items():
        for ours, twice, wanted in zip(arrays, again[layer], network.get_layer(layer).get_weights(), strict=True):
            assert ours.dtype == np.float32 and np.array_equal(ours, wanted) and np.array_equal(twice, wanted), layer
    assert sum(len(arrays) for arrays in found.values()) == len(network.weights)


def test_a_process_ends_while_numbers_are_read(files: Path) -> None:
    """A thread stopped inside h5py would keep its lock, and Python's end waits for that."""
    code = "import pathlib, sys; from tuner.backbones.resnet50 import numbers; numbers.begin(pathlib.Path(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(files / "current.weights.h5")]
    for _ in range(3):
        assert subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=60).returncode == 0


def test_half_precision_numbers_are_read_as_keras_reads_them(files: Path, tmp_path: Path) -> None:
    import h5py

    half = tmp_path / "half.weights.h5"
    half.write_bytes((files / "current.weights.h5").read_bytes())
    with h5py.File(half, "r+") as file:
        kernel = file["layers/conv2d_5/vars"]
        values = kernel["0"][()].astype(np.float16)
        del kernel["0"]
        kernel["0"] = values
    model = from_file(half, tmp_path)
    layer = [layer for layer in model.layers if type(layer).__name__ == "Conv2D"][5]
    assert numbers.read(half) is not None
    assert np.array_equal(layer.get_weights()[0], values.astype(np.float32))


def test_what_is_not_laid_out_as_expected_is_left_to_keras(files: Path, tmp_path: Path) -> None:
    """Another shape, another kind of number, numbers in another file, one array or layer more or less."""
    import h5py

    def changed(change: Callable[[Any], None]) -> Path:
        path = tmp_path / "changed.weights.h5"
        path.write_bytes((files / "current.weights.h5").read_bytes())
        with h5py.File(path, "r+") as file:
            change(file["layers"])
        return path

    def elsewhere(layers: Any) -> None:
        del layers["conv2d_3"]
        layers["conv2d_3"] = h5py.ExternalLink(str(files / "current.weights.h5"), "layers/conv2d_3")

    def reshaped(layers: Any) -> None:
        del layers["conv2d/vars/1"]
        layers["conv2d/vars/1"] = np.zeros(65, np.float32)

    def whole(layers: Any) -> None:
        del layers["conv2d/vars/1"]
        layers["conv2d/vars/1"] = np.zeros(64, np.int32)

    def more(layers: Any) -> None:
        layers["dense/vars/0"] = np.zeros((2048, 2), np.float32)

    def less(layers: Any) -> None:
        del layers["batch_normalization_9"]

    for change in (elsewhere, reshaped, whole, more, less):
        assert numbers.read(changed(change)) is None, change.__name__
    assert numbers.read(tmp_path / "missing.h5") is None
    assert numbers.read(changed(lambda layers: None)) is not None


def test_a_search_makes_its_parts_without_keras_own_network(files: Path, tmp_path: Path) -> None:
    found, _ = weights.find((str(files / "current.weights.h5"),), tmp_path, 0, "")
    ours = ResNet50(48, found, tmp_path, lambda: pytest.fail("a file needs no calibration"))
    ours.prefix("image", ["conv4_block6"])
    ours.suffix("conv5_block1", 20, "trained", "float32")
    assert ours.parameters() == 23_587_712 and "graph" not in vars(ours)


def test_weights_serve_any_image_size(files: Path, backbone: Any, tmp_path: Path) -> None:
    other = from_file(files / "current.weights.h5", tmp_path, side=64)
    assert np.array_equal(other.get_weights()[0], backbone.stock.get_weights()[0])


# ---- finding ----


def test_the_first_of_a_list_that_can_be_had(files: Path, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.h5")
    found, reasons = weights.find((missing, "legacy.h5", "random"), files, 0, "photographs")
    assert found.name == "legacy.h5" and found.path == files / "legacy.h5"
    assert len(reasons) == 1 and missing in reasons[0]
    found, reasons = weights.find((missing, "random", "legacy.h5"), files, 3, "photographs")
    assert (found.kind, found.path, found.pretrained) == ("random", None, False)
    assert len(reasons) == 1
    with pytest.raises(WeightsError) as refused:
        weights.find((missing, "other.keras"), files, 0, "photographs")
    assert missing in str(refused.value) and "other.keras" in str(refused.value), "every reason is said"


def test_a_relative_file_counts_from_the_study_then_from_here(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.h5").write_bytes(b"here")
    (tmp_path / "legacy.h5").write_bytes(b"here")
    assert weights.find(("here.h5",), files, 0, "")[0].path == tmp_path / "here.h5"
    assert weights.find(("legacy.h5",), files, 0, "")[0].path == files / "legacy.h5"


def test_the_key_changes_with_the_numbers(files: Path, tmp_path: Path) -> None:
    changed = tmp_path / "current.weights.h5"
    data = bytearray((files / "current.weights.h5").read_bytes())
    data[len(data) // 2] ^= 1
    changed.write_bytes(data)
    keys = [weights.find((str(p),), tmp_path, 0, "")[0].key for p in (files / "current.weights.h5", changed)]
    keys += [weights.find(("random",), tmp_path, seed, key)[0].key for seed in (0, 1) for key in ("a", "b")]
    assert len(set(keys)) == 6


# ---- hostile files ----


def test_the_configuration_in_a_model_file_is_never_read(
    files: Path, backbone: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What would run code when it is made into a layer is left where it lies."""
    hostile = tmp_path / "hostile.keras"
    with zipfile.ZipFile(files / "whole.keras") as good, zipfile.ZipFile(hostile, "w") as bad:
        bad.writestr("model.weights.h5", good.read("model.weights.h5"))
        bad.writestr("metadata.json", "{}")
        bad.writestr(
            "config.json",
            '{"module": "builtins", "class_name": "function", "config": "__lambda__", "registered_name": "function"}',
        )
    for ours, wanted in zip(from_file(hostile, tmp_path).get_weights(), backbone.stock.get_weights(), strict=True):
        assert np.array_equal(ours, wanted)
    monkeypatch.setattr(numbers, "LARGEST", 1000)
    with pytest.raises(WeightsError, match="GB unpacked"):
        from_file(hostile, tmp_path)


# ---- bad files ----


@pytest.fixture(scope="module")
def refusal(network: Any) -> Callable[[Path], str]:
    """What is said when a file is refused. One network takes them all."""

    def load(path: Path) -> str:
        found, _ = weights.find((str(path),), path.parent, 0, "photographs")
        with pytest.raises(WeightsError) as refused:
            weights.load_into(network, found, path.parent, lambda: pytest.fail("a file needs no calibration"))
        return str(refused.value)

    return load


Refusal = Callable[[Path], str]


def test_a_missing_file_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"nowhere\.h5 was not found \(looked in .*existing \.h5, \.weights\.h5 or"):
        weights.find(("nowhere.h5",), tmp_path, 0, "")


def test_another_ending_is_refused(tmp_path: Path) -> None:
    (tmp_path / "resnet.pt").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"resnet\.pt: weights files end in \.h5, \.weights\.h5 or \.keras"):
        weights.find(("resnet.pt",), tmp_path, 0, "")


@pytest.mark.parametrize("name", ["current.weights.h5", "whole.keras", "legacy.h5"])
def test_a_truncated_file_is_named_with_what_is_expected(
    name: str, files: Path, refusal: Refusal, tmp_path: Path
) -> None:
    data = (files / name).read_bytes()
    cut = tmp_path / name
    for length in (len(data) * 2 // 3, 1000, 0):
        cut.write_bytes(data[:length])
        message = refusal(cut)
        assert str(cut) in message and "ResNet50(include_top=False)" in message


@pytest.mark.parametrize("name", ["notes.h5", "notes.weights.h5", "notes.keras"])
def test_a_file_of_something_else_is_named_with_what_is_expected(name: str, refusal: Refusal, tmp_path: Path) -> None:
    (tmp_path / name).write_text("these are my notes, not weights\n" * 100)
    message = refusal(tmp_path / name)
    assert str(tmp_path / name) in message and weights.NOTOP in message
    with zipfile.ZipFile(tmp_path / "archive.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    assert "archive.keras" in refusal(tmp_path / "archive.keras")


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory, files: Path) -> Path:
    """Weights of other networks in each format: a small one, one that is a ResNet-50's lower part, and a ResNet-50
    with its top."""
    import keras

    place = tmp_path_factory.mktemp("strangers")
    photograph = keras.Input((48, 48, 3))
    x = keras.layers.Conv2D(64, 7, strides=2, name="conv1_conv")(photograph)
    small = keras.Model(photograph, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)))
    whole = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(48, 48, 3))
    part = keras.Model(whole.inputs, whole.get_layer("conv2_block3_out").output)
    top = keras.applications.ResNet50(weights=None, include_top=True, classes=5, input_shape=(48, 48, 3))
    for name, model in (("small", small), ("part", part), ("top", top)):
        for ending in (".weights.h5", ".keras", ".h5"):
            save = model.save_weights if ending == ".weights.h5" else model.save
            save(place / (name + ending))
    return place


OTHERS = [(name, ending) for name in ("small", "part") for ending in (".weights.h5", ".keras", ".h5")]


@pytest.mark.parametrize(("name", "ending"), [*OTHERS, ("top", ".h5")])
def test_another_networks_weights_are_refused(name: str, ending: str, strangers: Path, refusal: Refusal) -> None:
    path = strangers / (name + ending)
    message = refusal(path)
    assert str(path) in message and "without its top" in message and "ResNet50(include_top=False)" in message


@pytest.mark.parametrize("ending", [".weights.h5", ".keras"])
def test_a_network_with_a_top_is_refused(ending: str, strangers: Path, refusal: Refusal) -> None:
    """Keras would load its body and leave the top out without a word: it may be another network than was meant."""
    message = refusal(strangers / f"top{ending}")
    assert "it has a top, " in message and "include_top=False" in message


def test_numbers_that_are_not_finite_are_refused(
    stock_resnet: Callable[[], Any], refusal: Refusal, tmp_path: Path
) -> None:
    model = stock_resnet()
    values = [2 * array for array in model.get_weights()]  # others than the network has been given before
    values[40][..., 0] = np.nan
    model.set_weights(values)
    model.save_weights(tmp_path / "broken.weights.h5")
    assert "not finite" in refusal(tmp_path / "broken.weights.h5")


# ---- random ----


def test_random_weights_are_the_same_twice_and_from_their_cache(
    backbone: Any, squares: np.ndarray, cache: Path, tmp_path: Path
) -> None:
    calls = []

    def calibration() -> np.ndarray:
        calls.append(1)
        return backbone._calibration_images()

    def make(place: Path) -> list[np.ndarray]:
        return [np.array(v) for v in ResNet50(48, backbone.weights, place, calibration).stock.get_weights()]

    wanted = backbone.stock.get_weights()
    again = make(tmp_path)
    assert len(calls) == 1
    assert all(np.array_equal(a, b) for a, b in zip(again, wanted, strict=True)), "drawn again: the same numbers"
    kept = make(tmp_path)
    assert len(calls) == 1, "the cache was used"
    assert all(np.array_equal(a, b) for a, b in zip(kept, wanted, strict=True))
    (stored,) = (tmp_path / "weights").glob("*/weights.npz")
    stored.write_bytes(stored.read_bytes()[:5000])
    mended = make(tmp_path)
    assert len(calls) == 2, "a damaged cache is made again"
    assert all(np.array_equal(a, b) for a, b in zip(mended, wanted, strict=True))


def test_random_weights_of_another_architecture_have_another_key(tmp_path: Path) -> None:
    keys = {
        weights.find(("random",), tmp_path, 7, "images", architecture=name)[0].key
        for name in ("resnet50", "resnet101", "efficientnetv2b0")
    }
    assert len(keys) == 3 and "random2-7-images" in keys, "a study of ResNet-50 that began earlier goes on"


def test_random_kernels_are_hes(backbone: Any) -> None:
    """He et al. 2015: standard deviation sqrt(2 / inputs of the kernel); another name draws other numbers."""
    kernels = {
        layer.name: np.asarray(layer.kernel) for layer in backbone.stock.layers if type(layer).__name__ == "Conv2D"
    }
    for name, kernel in kernels.items():
        wanted = np.sqrt(2 / np.prod(kernel.shape[:3]))
        assert abs(kernel.std() / wanted - 1) < 0.05 and abs(kernel.mean()) < 0.05 * wanted, name
    assert not np.array_equal(kernels["conv5_block2_1_conv"], kernels["conv5_block3_1_conv"])


# ---- ImageNet ----


def test_without_a_network_imagenet_says_how_to_get_the_file(tmp_path: Path) -> None:
    """In a process of its own whose sockets go nowhere and whose Keras home is empty; which also shows what a process
    that is no command imports: everything."""
    program = f"""
        import socket

        def refuse(*args, **options):
            raise OSError(101, "Network is unreachable")

        socket.create_connection = socket.getaddrinfo = refuse
        socket.socket.connect = refuse
        import sys
        from pathlib import Path
        from tuner.backends import backend
        backend.start()
        assert {{"pandas", "sklearn"}} <= set(sys.modules), "a notebook gets the backend whole"
        from tuner.backbones import weights
        from tuner.errors import WeightsError
        found, reasons = weights.find(("imagenet", "random"), Path("."), 0, "photographs")
        print(found.kind)
        try:
            weights.find(("imagenet",), Path("."), 0, "photographs")
        except WeightsError as error:
            assert reasons == [str(error)]
            print(error)
        place = Path({str(tmp_path)!r}) / "models" / weights.NOTOP
        print(weights.keras_cache() == place.parent)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=tmp_path,
        env=os.environ | {"KERAS_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    kind, message, same = done.stdout.strip().splitlines()
    assert (kind, same) == ("random", "True")
    assert str(tmp_path / "models" / weights.NOTOP) in message
    for said in (weights.DOWNLOAD, f"--weights {weights.NOTOP}", "--weights random", "Network is unreachable"):
        assert said in message


def test_a_pipe_in_keras_cache_or_as_a_file_is_refused_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    os.mkfifo(tmp_path / "models" / weights.NOTOP)
    os.mkfifo(tmp_path / "mine.weights.h5")
    for name in ("imagenet", "mine.weights.h5"):
        with pytest.raises(WeightsError, match="found no regular file|was not found"):
            weights.find((name,), tmp_path, 0, "")
