"""`report` and `best`: what goes to which stream, in which form, whatever the names are and whoever reads."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from cli_programs import Tlstudy, process
from made_study import FINISHED, INTERRUPTED, MANY, NO_TRIAL_YET, UNTRAINED, Made

from tuner.store.folder import StudyFolder

HOSTILE = Made(
    classes=("<script>alert(1)</script>", "[/x]", "\x1b]0;mine\x07\x1b[31mred\n", "caf\udce9", "日本", "a" * 200)
)


def test_json_is_all_there_is_on_standard_output(tlstudy: Tlstudy, made: Callable[..., Path]) -> None:
    made()
    done = tlstudy("report", "--format", "json")
    assert done.code == 0
    assert done.err == "Study studies/made (the only study under studies/).\n"
    found = json.loads(done.out)
    tables = {"configurations", "trials", "epochs", "depths", "importance", "photographs"}
    assert set(found) == {"study", "recommendation", "verdict", *tables}
    assert found["study"]["state"] == "finished"
    assert found["study"]["classes"] == list(FINISHED.classes)
    assert len(found["configurations"]) > 3


def test_csv_is_all_there_is_on_standard_output(tlstudy: Tlstudy, made: Callable[..., Path]) -> None:
    made()
    done = tlstudy("report", "made", "--format", "csv")
    assert done.code == 0
    assert done.err == "Study studies/made (by its name under studies/).\n"
    rows = list(csv.DictReader(io.StringIO(done.out)))
    as_json = json.loads(tlstudy("report", "--format", "json").out)["configurations"]
    assert [list(row) for row in rows] == [list(row) for row in as_json]
    assert [row["id"] for row in rows] == [row["id"] for row in as_json]


@pytest.mark.parametrize("form", ["json", "csv"])
def test_data_are_also_written_where_asked(
    tlstudy: Tlstudy, made: Callable[..., Path], tmp_path: Path, form: str
) -> None:
    made()
    done = tlstudy("report", "--format", form, "--output", "deep/data")
    written = tmp_path / "deep" / "data" / f"configurations.{form}"
    assert done.code == 0
    assert done.out.rstrip("\n") == written.read_text().rstrip("\n")
    assert [p.name for p in written.parent.iterdir()] == [written.name]


def test_a_report_is_for_its_owner_alone_in_whatever_study(tlstudy: Tlstudy, made: Callable[..., Path]) -> None:
    """Also where the study's folder was made by somebody else, and an earlier report is open to all."""
    root = made()
    root.chmod(0o755)
    (root / "report").mkdir()
    (root / "report").chmod(0o755)
    assert tlstudy("report").code == 0
    assert (root / "report").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (root / "report").iterdir()} == {0o600}
    assert root.stat().st_mode & 0o777 == 0o755


def test_no_link_in_a_study_is_written_through(tlstudy: Tlstudy, made: Callable[..., Path], tmp_path: Path) -> None:
    root, theirs = made(), tmp_path / "theirs"
    theirs.mkdir()
    (root / "report").symlink_to(theirs)
    (root / "checkpoints").symlink_to(theirs)
    (theirs / "c000-best-00001.npz").touch()
    for arguments in (["report"], ["best"], ["search", "made"]):
        done = tlstudy(*arguments)
        assert done.code == 2 and "is a symbolic link, expected" in done.text
    assert [path.name for path in theirs.iterdir()] == ["c000-best-00001.npz"]


def test_a_report_draws_into_the_study_or_where_asked(
    tlstudy: Tlstudy, made: Callable[..., Path], tmp_path: Path
) -> None:
    """Of a finished study, and of one that runs."""
    for what, arguments, state in ((FINISHED, [], "finished"), (INTERRUPTED, ["--output", "elsewhere"], "running")):
        study = made(state, what=what)
        with StudyFolder(study).locked() if state == "running" else nullcontext():
            done = tlstudy("report", state, *arguments)
        assert done.code == 0
        assert done.out.startswith(f"Study studies/{state} (by its name under studies/).\n")
        folder = tmp_path / "elsewhere" if arguments else study / "report"
        names = {p.name for p in folder.iterdir()}
        assert names >= {"configurations.csv", "trials.csv", "epochs.csv", "report.json", "learning_curves.png"}
        assert f"Wrote {len(names)} files to" in done.text
        assert json.loads((folder / "report.json").read_text())["study"]["state"] == state


@pytest.mark.parametrize("what", [FINISHED, INTERRUPTED, NO_TRIAL_YET, UNTRAINED, MANY], ids=lambda m: str(m.outcome))
def test_every_state_of_a_study_can_be_shown(tlstudy: Tlstudy, made: Callable[..., Path], what: Made) -> None:
    made(what=what)
    states = {"finished": "finished", "interrupted": "interrupted", None: "interrupted"}
    found = json.loads(tlstudy("report", "--format", "json").out)
    assert found["study"]["state"] == states[what.outcome]
    assert tlstudy("report", "--format", "csv").code == 0
    assert tlstudy("best", "--top", "1").code == 0


def test_a_study_that_runs_is_shown_as_running(tlstudy: Tlstudy, made: Callable[..., Path]) -> None:
    root = made(what=INTERRUPTED)
    with StudyFolder(root).locked():
        assert json.loads(tlstudy("report", "--format", "json").out)["study"]["state"] == "running"
        assert tlstudy("best").code == 0


def test_a_reading_changes_nothing_in_the_results(tlstudy: Tlstudy, made: Callable[..., Path]) -> None:
    root = made()
    before = (root / "study.db").read_bytes(), (root / "study.toml").read_bytes()
    for arguments in (["report", "--format", "json"], ["best"]):
        assert tlstudy(*arguments).code == 0
    assert ((root / "study.db").read_bytes(), (root / "study.toml").read_bytes()) == before


def test_top_is_how_many_are_shown(tlstudy: Tlstudy, made: Callable[..., Path]) -> None:
    made()
    shown = [tlstudy("best", "-k", k).out for k in (1, 3, 10**30)]
    counts = [sum(line.startswith("c0") for line in text.splitlines()) for text in shown]
    assert counts[0] < counts[1] < counts[2]


def test_best_says_first_which_model_to_use(tlstudy: Tlstudy, made: Callable[..., Path]) -> None:
    made()
    _, first, second, *rest = tlstudy("best").out.splitlines()
    assert first.startswith("Use: the ") and second.startswith("Chance that ")
    assert any("Best configurations" in line for line in rest)


def test_the_question_may_be_lost_or_broken_and_results_still_read(tlstudy: Tlstudy, made: Callable[..., Path]) -> None:
    root = made()
    (root / "study.toml").write_text("[broken")
    assert tlstudy("report", "--format", "json").code == 0
    (root / "study.toml").unlink()
    assert tlstudy("best", "made").code == 0


# ---- names and encodings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["report"], ["best"]], ids=" ".join)
def test_no_name_steers_the_terminal(tlstudy: Tlstudy, made: Callable[..., Path], arguments: list[str]) -> None:
    made(what=HOSTILE)
    done = tlstudy(*arguments)
    assert done.code == 0
    assert not set(done.out + done.err) & {"\x1b", "\x07", "\x00", "\r"}
    if arguments == ["report"]:
        assert "<script>alert(1)</script>" in done.text
        assert "[/x]" in done.text
        assert r"\x1b]0;mine\x07\x1b[31mred\n" in done.text


def test_names_come_through_json_and_csv_as_they_are(tlstudy: Tlstudy, made: Callable[..., Path]) -> None:
    made(what=HOSTILE)
    done = tlstudy("report", "--format", "json")
    assert json.loads(done.out)["study"]["classes"] == list(HOSTILE.classes)
    assert tlstudy("report", "--format", "csv").code == 0


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", "report"), ("utf-8", "best"), ("latin-1", "best")])
def test_an_encoding_without_the_characters_is_no_error(
    made: Callable[..., Path], tmp_path: Path, encoding: str, shown: str
) -> None:
    made(what=HOSTILE)
    done = process(shown, cwd=tmp_path, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("Study studies/made")
    done = process(shown, "日本\x1b[31m", cwd=tmp_path, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert done.code == 2
    assert "Traceback" not in done.err
    assert "\x1b" not in done.err


def test_a_study_folder_whose_name_is_not_utf8_can_be_shown(tlstudy: Tlstudy, made: Callable[..., Path]) -> None:
    made("caf\udce9")
    done = tlstudy("best", "caf\udce9")
    assert done.code == 0
    assert r"Study studies/caf\udce9" in done.out


def test_the_first_line_says_which_study_and_why(tlstudy: Tlstudy, made: Callable[..., Path], tmp_path: Path) -> None:
    root = made("one")
    assert tlstudy("best").out.startswith("Study studies/one (the only study under studies/).\n")
    assert tlstudy("best", "one").out.startswith("Study studies/one (by its name under studies/).\n")
    assert tlstudy("best", "studies/one").out.startswith("Study studies/one (as named).\n")
    assert tlstudy("best", cwd=root).out.startswith("Study . (the study in this folder).\n")
    made("two")
    lead = tlstudy("best").out.splitlines()[0]
    assert lead.endswith("(the most recently touched of 2 studies under studies/).")
