"""What a backend says about itself: threads and TF32 are facts, and float32 is float32."""

from __future__ import annotations

import json

import pytest

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
