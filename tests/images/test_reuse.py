"""Nothing is decoded twice, nothing damaged is used, nothing half-written is left."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import folder, image_file, unsplit
from images.preparing import SPEC, check_rows, refused, run
from PIL import Image

from tuner.images import dataset, reading
from tuner.images.dataset import Dataset, prepare


class Decodes:
    """Counts how often an image's pixels are decoded, by way of the one function that does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.number = 0
        decode = reading.decode

        def counted(image: Image.Image) -> object:
            self.number += 1
            return decode(image)

        monkeypatch.setattr(reading, "decode", counted)

    def take(self) -> int:
        number, self.number = self.number, 0
        return number


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> Decodes:
    return Decodes(monkeypatch)


def entry(tmp_path: Path, data: Dataset) -> Path:
    return tmp_path / "cache" / "images" / data.key


# ---- nothing is computed twice ----


def test_decoded_once(tmp_path: Path, decodes: Decodes) -> None:
    folder(tmp_path / "data", 3, 3)
    (tmp_path / "data/train/cat/bad.jpg").write_bytes((tmp_path / "data/train/cat/00.jpg").read_bytes()[:-300])
    first = run(tmp_path)
    assert decodes.take() == 13
    second = run(tmp_path)
    assert decodes.take() == 0
    assert (first.key, first.records, first.left_out) == (second.key, second.records, second.left_out)


def test_renamed_moved_and_added_files(tmp_path: Path, decodes: Decodes) -> None:
    root = folder(tmp_path / "data", 3, 3)
    first = run(tmp_path)
    decodes.take()
    os.rename(root / "train/cat/00.jpg", root / "train/cat/zz.jpg")
    os.rename(root / "train/cat", root / "train/ape")
    os.rename(root / "val/cat", root / "val/ape")
    second = run(tmp_path)
    assert decodes.take() == 0
    assert second.key != first.key
    check_rows(second)
    image_file(root / "train/dog/new.png", 77)
    check_rows(run(tmp_path))
    assert decodes.take() == 1


def test_another_seed_splits_anew_and_decodes_nothing(tmp_path: Path, decodes: Decodes) -> None:
    unsplit(tmp_path / "data", 10)
    first = run(tmp_path, seed=0)
    decodes.take()
    second = run(tmp_path, seed=1)
    assert decodes.take() == 0
    assert first.key != second.key
    check_rows(second)


def test_a_bad_file_added_later_is_tried_once(tmp_path: Path, decodes: Decodes) -> None:
    root = folder(tmp_path / "data", 3, 3)
    first = run(tmp_path)
    content = bytearray((root / "train/cat/00.jpg").read_bytes()[:-300])
    (root / "train/cat/bad.jpg").write_bytes(bytes(content))
    decodes.take()
    assert run(tmp_path).key == first.key
    assert decodes.take() == 1
    assert [left.reason for left in run(tmp_path).left_out] == ["truncated JPEG"]
    assert decodes.take() == 0


def test_other_settings_decode_again(tmp_path: Path, decodes: Decodes) -> None:
    folder(tmp_path / "data", 2, 2)
    keys = {run(tmp_path, replace(SPEC, **change)).key for change in ({}, {"image_size": 33}, {"resize": "pad"})}
    assert len(keys) == 3
    assert decodes.take() == 24


def test_what_was_decoded_survives_a_refusal(tmp_path: Path, decodes: Decodes) -> None:
    root = unsplit(tmp_path / "data", 6)
    shutil.copy(root / "cat/00.jpg", root / "dog/copy.jpg")
    assert "two classes" in refused(tmp_path)
    assert decodes.take() == 12
    (root / "dog/copy.jpg").unlink()
    check_rows(run(tmp_path))
    assert decodes.take() == 0


# ---- nothing is lost, nothing damaged is used ----


@pytest.mark.parametrize("name", ["images.npy", "manifest.json"])
@pytest.mark.parametrize("how", ["flip", "cut", "remove"])
def test_damaged_entries_are_rebuilt(tmp_path: Path, decodes: Decodes, name: str, how: str) -> None:
    folder(tmp_path / "data", 2, 2)
    first = run(tmp_path)
    decodes.take()
    path = entry(tmp_path, first) / name
    content = bytearray(path.read_bytes())
    path.unlink()
    if how == "flip":
        content[len(content) // 2] ^= 1
    if how != "remove":
        path.write_bytes(bytes(content[: len(content) // 2] if how == "cut" else content))
    second = run(tmp_path)
    assert second.key == first.key
    assert decodes.take() == 8
    check_rows(second)


def test_nothing_but_the_entry_is_left_behind(tmp_path: Path) -> None:
    folder(tmp_path / "data", 2, 2)
    data = run(tmp_path)
    assert os.listdir(tmp_path / "cache" / "images") == [data.key]
    assert sorted(os.listdir(entry(tmp_path, data))) == ["images.npy", "lock", "manifest.json"]


def test_an_interrupt_leaves_no_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path / "data", 2, 2)

    def stop(done: int, total: int) -> None:
        if done >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(SPEC, tmp_path, tmp_path / "cache", 0, stop)
    assert os.listdir(tmp_path / "cache" / "images") == []


def test_what_an_earlier_version_left_half_made_goes(tmp_path: Path) -> None:
    folder(tmp_path / "data", 2, 2)
    (tmp_path / "cache/images/.tlstudy-tmp-old").mkdir(parents=True)
    data = run(tmp_path)
    assert os.listdir(tmp_path / "cache" / "images") == [data.key]


def test_an_entry_without_a_layout_number_is_not_believed(tmp_path: Path, decodes: Decodes) -> None:
    """Written before the first lock, it can hold rows of zeros under a checksum that is right."""
    folder(tmp_path / "data", 2, 2)
    data = run(tmp_path)
    decodes.take()
    path = entry(tmp_path, data)
    manifest = json.loads((path / "manifest.json").read_text())
    zeros = np.zeros_like(data.images)
    np.save(path / "images.npy", zeros)
    digest = hashlib.sha256((path / "images.npy").read_bytes()).hexdigest()
    body = {**manifest["body"]["about"], "sha256": digest}
    told = {"body": body, "sha256": hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()}
    (path / "manifest.json").write_text(json.dumps(told))
    check_rows(run(tmp_path))
    assert decodes.take() == 8


def test_a_file_that_changes_meanwhile_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder(tmp_path / "data", 2, 2)
    hash_files = dataset.hash_files

    def hash_then_change(*args: Any) -> object:
        hashed = hash_files(*args)
        image_file(root / "val/dog/01.jpg", 12345, 64, 64)
        return hashed

    monkeypatch.setattr(dataset, "hash_files", hash_then_change)
    assert "changed while" in refused(tmp_path)
