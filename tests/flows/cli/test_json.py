"""--json: exactly one document on standard output, also where a command fails; the exit codes stay."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flows.cli import app, output
from flows.cli.publishing import json_output
from flows.operations import doctor
from flows.operations.health import HealthCheck, failed, passed
from pipeline.errors import NextdayError
from tests.flows.cli.test_output import evening
from tests.pipeline.report.test_documents import valid
from tests.support import stored_week
from tests.support.command_line import HERE, CommandLine, Said, seal_one

pytestmark = pytest.mark.slow

days, store, weekly = stored_week.days, stored_week.store, stored_week.nextday


@pytest.fixture
def nextday(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


def failure(said: Said, code: int) -> list[dict[str, str]]:
    """Return the faults of the one document on standard output."""
    document = valid(said.out)
    assert (document["document"], document["exit_code"], said.code) == ("error", code, code)
    assert "nextday: " in said.err
    errors: list[dict[str, str]] = document["errors"]
    return errors


def test_the_ledger_shows_its_rows(nextday: CommandLine) -> None:
    seal_one()
    said = nextday(*HERE, "ledger", "show", "--json")
    (row,) = valid(said.out)["rows"]
    assert (said.code, row["symbol"], row["p_up"], row["outcome"]) == (0, "^GSPC", 0.52, None)


@pytest.mark.parametrize("is_well", [True, False])
def test_the_doctor_answers_and_keeps_its_exit_code(
    nextday: CommandLine, monkeypatch: pytest.MonkeyPatch, is_well: bool
) -> None:
    checks = [passed("one"), HealthCheck(True, "three", "a fix that is not needed")]
    checks += [] if is_well else [failed("two", "a fix")]
    monkeypatch.setattr(doctor, "examine", lambda *_: checks)
    said = nextday(*HERE, "doctor", "--json")
    answer = valid(said.out)
    assert (said.code, answer["passed"]) == (0 if is_well else 1, is_well)
    assert [each["what"] for each in answer["checks"]] == [each.what for each in checks]
    assert [each["fix"] for each in answer["checks"]] == ["", "", *([] if is_well else ["a fix"])]


def test_the_check_of_the_prices_lists_every_finding(weekly: CommandLine) -> None:
    said = weekly(*HERE, "prices", "check", "--json")
    answer = valid(said.out)
    shown = weekly(*HERE, "prices", "check", "--all")
    assert said.code == shown.code == int(answer["needs_person"])
    (prices,) = answer["prices"]
    assert {each["symbol"] for each in prices["coverage"]} == {"A", "B"}
    assert len(prices["findings"]) > 0
    assert f"{len(prices['findings'])} finding" in shown.out


def test_an_evening_answers_with_its_newest_forecasts(capsys: pytest.CaptureFixture[str]) -> None:
    output.show_evening(evening(), as_json=True)
    answer = valid(capsys.readouterr().out)
    assert (answer["sealed"], answer["settled"]) == (2, 0)
    assert answer["files"]["latest_json"] == "/w/reports/sample/latest.json"
    assert [row["symbol"] for row in answer["latest"]["forecasts"]] == ["^GSPC", "^IXIC"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ledger", "show", "--last", "0"], "--last"),
        (["ledger", "show", "--bogus"], "--bogus"),
        (["update"], "--json"),
        (["bogus"], "bogus"),
        (["--now", "garbage", "doctor"], "garbage"),
    ],
)
def test_a_wrong_argument_is_answered_in_json(nextday: CommandLine, arguments: list[str], words: str) -> None:
    (fault,) = failure(nextday(*arguments, "--json"), 2)
    assert words in fault["what"]
    assert fault["fix"].endswith("--help")


def test_every_fault_of_the_settings_is_an_error_of_its_own(nextday: CommandLine) -> None:
    Path("nextday.toml").write_text("[model]\nunits = 0\nlayers = 0\n")
    faults = failure(nextday(*HERE, "forecast", "--json"), 2)
    assert [fault["what"].split(":")[0] for fault in faults] == ["model.units", "model.layers"]
    assert {fault["where"] for fault in faults} == {str(Path("nextday.toml").resolve())}


def test_an_unexpected_error_says_where_it_was_raised(
    nextday: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal_one()
    monkeypatch.setattr(output, "show_record", lambda *_: None)

    def broken(*_: Any) -> None:
        print("a library prints")
        raise ZeroDivisionError("x")

    monkeypatch.setattr("flows.cli.publishing.answers.answer_record", broken)
    said = nextday(*HERE, "ledger", "show", "--json")
    (fault,) = failure(said, 1)
    assert fault["what"] == "Unexpected error: ZeroDivisionError: x"
    assert "test_json.py, line" in fault["where"]
    assert "a library prints" in said.err


def test_a_failure_keeps_its_exit_code(nextday: CommandLine) -> None:
    (fault,) = failure(nextday(*HERE, "ledger", "show", "--json"), 1)
    assert fault["what"] == "There is no ledger yet"
    assert "nextday forecast" in fault["fix"]


def test_without_json_nothing_has_changed(nextday: CommandLine) -> None:
    said = nextday("ledger", "show", "--last", "0")
    assert (said.code, said.out) == (2, "")
    assert nextday("ledger", "show", "--help", "--json").out.count("--last") == 1


def test_no_other_process_writes_into_the_document(tmp_path: Path) -> None:
    """What a child process prints goes to standard error too: it writes to the descriptor, not to sys.stdout."""
    code = """
import subprocess, sys
from flows.cli.publishing.json_output import documents_alone, print_document
with documents_alone(["--json"]):
    print("printed")
    subprocess.run([sys.executable, "-c", "print('a child')"], check=True)
    print_document("{}\\n")
print("afterwards")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "{}\nafterwards\n"
    assert sorted(done.stderr.splitlines()) == ["a child", "printed"]


def test_a_reader_who_has_gone_is_no_error_to_show() -> None:
    code = """
import sys
from flows.cli.publishing.json_output import documents_alone, print_document
with documents_alone(["--json"]):
    sys.stdin.read()
    print_document("x" * 1_000_000)
"""
    command = [sys.executable, "-c", code]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.close()
        said = process.stderr.read()
        assert (process.wait(), said) == (1, "")


def test_the_exports_exist_as_parquet_with_the_same_rows(nextday: CommandLine) -> None:
    seal_one()
    for path in ("r.csv", "r.parquet"):
        assert nextday(*HERE, "ledger", "export", f"--{path[2:]}", path).code == 0
    table, text = pd.read_parquet("r.parquet"), pd.read_csv("r.csv")
    assert {*text.columns} == {*table.columns} - {"observed_at"}
    assert table["p_up"].tolist() == text["p_up"].tolist()
    assert table["model_version"].tolist() == ["0123456789abcdef"]
    assert str(table["issued_at"].dtype) == "datetime64[us, UTC]"
    assert table["settled_at"].isna().all()
    assert nextday(*HERE, "ledger", "export").code == 2
    assert nextday(*HERE, "ledger", "export", "--parquet", "-").code == 2


def test_positions_are_written_as_parquet(nextday: CommandLine) -> None:
    said = nextday(*HERE, "ledger", "positions", "--parquet", "p.parquet")
    assert said.code == 1
    assert "There is no ledger yet" in said.err
    assert not Path("p.parquet").exists()


def test_an_error_of_ours_reads_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    error = NextdayError("what", where="where", fix="fix")
    with pytest.raises(SystemExit) as ended:
        json_output.fail(error)
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (1, "")
    assert said.err == f"nextday: {error}\n"


def test_the_commands_that_answer_in_json_are_documented() -> None:
    page = Path(app.__file__).parents[2] / "docs" / "json.md"
    for command in ("forecast", "backtest", "ledger show", "prices check", "doctor"):
        assert f"`nextday {command} --json`" in page.read_text("utf-8")
