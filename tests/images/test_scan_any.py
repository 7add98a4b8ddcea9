"""Whatever lies in the folder, only this project's errors come out."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.errors import DataError
from tuner.images.dataset import prepare
from tuner.images.scan import scan
from tuner.spec.spec import DataSpec

NAMES = st.one_of(
    st.sampled_from(
        ["train", "val", "Valid", "test", "cat", "Cat", "dog", "caf\u00e9", "cafe\u0301", ".DS_Store", "__MACOSX"]
    ),
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8).filter(
        lambda name: name not in (".", "..") and len(name.encode()) < 200
    ),
)
BYTES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\0\0\0\0WEBP", b"BM", b"II*\0", b"%PDF"]
    ),
)
TREES = st.recursive(
    st.one_of(BYTES, st.just(None)),
    lambda inner: st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=20,
)


def plant(path: Path, tree: object) -> None:
    """Bytes are a file, None a link to nothing, a dictionary a folder."""
    if isinstance(tree, dict):
        path.mkdir(exist_ok=True)
        for name, inner in tree.items():
            plant(path / name, inner)
    elif isinstance(tree, bytes):
        path.write_bytes(tree)
    else:
        path.symlink_to("nothing")


@settings(max_examples=150)
@given(tree=TREES, recursive=st.booleans())
def test_any_tree_is_images_or_a_data_error(tree: object, recursive: bool) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        plant(folder / "data", tree)
        try:
            found = scan(folder / "data", recursive)
        except DataError as error:
            message = str(error)
        else:
            message = ""
            assert len(found.classes) >= 2 and found.files
        assert message.isprintable() or not message
        try:
            prepare(DataSpec(path="data", image_size=32, recursive=recursive), folder, folder / "cache", 0)
        except DataError as error:
            message = str(error)
        assert message, "bytes that make no image never make a dataset"
    finally:
        shutil.rmtree(folder)
