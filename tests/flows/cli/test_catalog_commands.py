"""`nextday source check`, `nextday models list`, `nextday ui` and `nextday site`."""

import os
import webbrowser
from pathlib import Path

import pytest

from flows.runtime import browser
from pipeline.tracking.runs import Tracking
from tests.support.command_line import CommandLine, seal_one, told

SOURCE = """
import pandas as pd

class Good:
    low = 9.0

    def fetch(self, symbol, start, end, now):
        days = pd.bdate_range("2018-01-01", "2018-11-30")
        bars = pd.DataFrame({"date": days, "open": 10.0, "high": 11.0, "low": self.low, "close": 10.5, "volume": 100})
        return bars[bars["date"] >= start] if symbol == "ACME" else None

class Bad(Good):
    low = 12.0
"""


@pytest.fixture
def nextday(
    own_modules: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    (tmp_path / "desk_prices.py").write_text(SOURCE)
    return CommandLine(tmp_path, monkeypatch, capsys)


def test_a_source_is_checked_without_a_test(nextday: CommandLine) -> None:
    clock = ("--now", "2018-12-10T22:00Z")
    good = nextday("source", "check", "desk_prices:Good", "ACME", *clock)
    assert good.code == 0, good.err
    assert "keeps the rules" in good.out
    bad = nextday("source", "check", "desk_prices:Bad", "ACME", *clock)
    assert bad.code == 1
    assert "low is above open or close" in told(bad)[0]
    assert nextday("source", "check", "desk_prices", "ACME", *clock).code == 2
    assert nextday("source", "check", "desk_prices:Good", "ACME", "--end", "2018-12-10", *clock).code == 2


def test_without_models_the_list_says_what_trains_one(nextday: CommandLine) -> None:
    said = nextday("models", "list")
    assert said.code == 0
    assert "nextday forecast trains one" in said.out


@pytest.mark.slow
def test_mlflows_address_leads_to_the_runs_and_what_is_worth_a_look_is_named(
    nextday: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[list[str]] = []
    opened: list[str] = []
    monkeypatch.setattr(os, "execv", lambda program, command: served.append(command))
    monkeypatch.setattr(browser, "open_later", opened.append)
    monkeypatch.setattr(browser, "has_screen", lambda: True)
    said = nextday("ui", "--home", "w", "--port", "5017")
    assert said.code == 0, said.err
    (page,) = (line.strip() for line in said.out.splitlines() if "http" in line)
    assert page == "http://127.0.0.1:5017/#/experiments/1/runs?workflowType=machine_learning"
    assert opened == [page]
    assert served[0][-6:] == ["--host", "127.0.0.1", "--port", "5017", "--workers", "1"]
    assert "gru.log_loss, gru.hit_rate" in said.out


def test_pages_of_a_shared_server_are_opened_and_nothing_is_started(
    nextday: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setattr(browser, "has_screen", lambda: True)
    monkeypatch.setattr(Tracking, "runs_page", lambda *_: "#/experiments/7")
    with Path("nextday.toml").open("a") as settings:
        settings.write('[storage]\nmlflow = "https://mlflow.example/desk/"\n')
    said = nextday("ui", "--home", "w")
    assert said.code == 0, said.err
    assert "https://mlflow.example/desk/#/experiments/7" in said.out
    assert "Ctrl+C" not in said.out
    assert opened == ["https://mlflow.example/desk/#/experiments/7"]


def test_a_backup_says_what_is_not_in_it(nextday: CommandLine) -> None:
    seal_one()
    with Path("nextday.toml").open("a") as settings:
        settings.write('[storage]\nmlflow = "env:DESK_MLFLOW"\nreports = "s3://desk/reports"\n')
    said = nextday("--home", "w", "backup", "copies")
    assert said.code == 0, said.err
    assert "not in this backup; they lie on env:DESK_MLFLOW: back up that server" in said.out
    assert "the copies on s3://desk/reports are not" in said.out


def test_the_site_is_shown_and_opened_where_there_is_a_screen(
    nextday: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    seal_one()
    index = Path("w/reports/sample/index.html").resolve()
    index.parent.mkdir(parents=True)
    index.touch()
    said = nextday("site", "--home", "w")
    assert (said.code, said.out.strip()) == (0, str(index))
    assert opened == []
    monkeypatch.setattr(browser, "has_screen", lambda: True)
    nextday("site", "--home", "w")
    assert opened == [index.as_uri()]


def test_without_a_ledger_there_is_no_site(nextday: CommandLine) -> None:
    said = nextday("site", "--home", "nowhere")
    assert said.code != 0
    assert "There is no ledger yet" in told(said)[0]
    assert not Path("nowhere").exists()
