"""`--json` as a program reads it: whole processes, one document on standard output, everything else beside it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import small_settings
from tests.pipeline.report.test_documents import valid

pytestmark = pytest.mark.proof

NEXTDAY = Path(sys.executable).with_name("nextday")


def start(folder: Path, *command: str, **streams: Any) -> "subprocess.Popen[str]":
    place = ("--config", str(folder / "nextday.toml"), "--home", str(folder / "home"))
    environment = os.environ | {"PREFECT_HOME": str(folder / "prefect")}
    return subprocess.Popen([NEXTDAY, *place, *command], text=True, env=environment, **streams)


def answer(folder: Path, *command: str) -> tuple[int, dict[str, Any], str]:
    """Return the exit code, the one document of standard output, and standard error."""
    process = start(folder, *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate(timeout=300)
    return process.returncode, valid(out), err


def test_an_evening_and_a_backtest_answer_in_one_document_each(tmp_path: Path) -> None:
    walk = "[backtest]\nwindow = 'rolling'\ntrain_sessions = 252\nrefit_sessions = 252\n"
    (tmp_path / "nextday.toml").write_text(small_settings(test_sessions=100) + walk)

    code, evening, err = answer(tmp_path, "forecast", "--json")
    assert code == 0
    assert evening["document"] == "forecast"
    assert {each["symbol"] for each in evening["latest"]["forecasts"]} == {"^GSPC", "^IXIC"}
    assert "sealed 2 forecasts" in err
    assert "Traceback" not in err

    code, walked, err = answer(tmp_path, "backtest", "--json")
    assert code == 0
    assert walked["document"] == "backtest"
    assert walked["verdicts"]
    assert "fold 1 of" in err
    assert "Traceback" not in err

    # A reader that has seen enough closes its end of the pipe: that is no failure of anything that was sealed.
    with start(tmp_path, "forecast", "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()


def test_what_cannot_be_done_is_one_document_too(tmp_path: Path) -> None:
    (tmp_path / "nextday.toml").write_text("[model]\nunits = 0\nlayers = 0\n[universe]\nnmae = 'x'\n")
    for command in ("forecast", "backtest"):
        code, document, _ = answer(tmp_path, command, "--json")
        assert code == document["exit_code"] == 2
        assert document["document"] == "error"
        assert len(document["errors"]) == 3
        assert all(each["fix"] for each in document["errors"])
    assert not (tmp_path / "home").exists()
