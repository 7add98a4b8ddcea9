"""What a backend says about itself: threads and TF32 are facts, and float32 is float32."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from programs import run

from tuner.backends import backend, processor


def test_the_environment_is_plain_json_and_names_what_numbers_depend_on() -> None:
    facts = backend.environment()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["backend"] == backend.start() and facts[facts["backend"]]
    assert facts["tf32"] is False, "set, not left to the library's default"


def test_tf32_can_be_allowed_and_is_what_the_environment_says() -> None:
    running = backend._started()
    try:
        running.allow_tf32(True)
        assert backend.environment()["tf32"] is True
    finally:
        running.allow_tf32(backend.tf32("float32"))
    assert backend.environment()["tf32"] is False
    assert not backend.tf32("mixed_bfloat16"), "its logits are float32"


def test_threads_are_the_cores_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    variable = "TF_NUM_INTRAOP_THREADS" if backend.start() == "tensorflow" else "NPROC"
    monkeypatch.delenv(variable, raising=False)
    assert backend.environment()["threads"].startswith(str(processor.cores()))
    monkeypatch.setenv(variable, "7")
    assert backend.environment()["threads"].startswith("7")


SETTINGS = """
import json, sys
from tuner.backends import backend
backend.start()
import keras
c = keras.config
told = [c.floatx(), c.image_data_format(), c.epsilon(), c.dtype_policy().name]
path = keras.utils.get_file("one.txt", origin="file://" + sys.argv[1])
c.set_dtype_policy("mixed_float16")
backend.environment()
print("\\n" + json.dumps([told, path, c.dtype_policy().name]))
"""


@pytest.mark.parametrize(
    "file",
    [
        '{"floatx": "float16", "image_data_format": "channels_first", "epsilon": 0.1}',
        '{"floatx": "bfloat16"}',  # with which Keras cannot be imported
    ],
)
def test_keras_own_configuration_file_changes_nothing_and_its_downloads_stay_where_they_are(
    tmp_path: Path, file: str
) -> None:
    (tmp_path / "keras").mkdir()
    (tmp_path / "keras" / "keras.json").write_text(file)
    (tmp_path / "one.txt").write_text("1")
    told = run(SETTINGS, tmp_path / "one.txt", KERAS_HOME=str(tmp_path / "keras"))
    assert told.returncode == 0, told.stderr
    first, downloaded, after = json.loads(told.stdout.splitlines()[-1])
    assert first == ["float32", "channels_last", 1e-7, "float32"]
    assert Path(downloaded).is_relative_to(tmp_path / "keras") and Path(downloaded).read_text() == "1"
    assert after == "float32", "nor do those that a process sets meanwhile"
