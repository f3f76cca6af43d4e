"""What people see on a terminal: nothing cut off, nothing undefined shown as a number."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from flows.cli import output
from pipeline.report.facts import OLD_MODEL, collect_key_facts
from pipeline.report.files import Paths
from pipeline.schema import SCORES
from tests.pipeline.report.test_files import a_report

SENTENCE = "No edge found: the interval [bold] of 12 sessions holds zero."


def scores(sessions: int) -> pd.DataFrame:
    line = dict.fromkeys(SCORES.columns, "") | {
        "model": "gru", "group": "live", "metric": "log_loss", "baseline": "base_rate", "value": 0.6931,
        "low": np.nan, "high": np.nan, "n": 2 * sessions, "effective_n": 1.5 * sessions, "sessions": sessions,
        "baseline_value": 0.6912, "p_value": np.nan, "horizon": 1, "target": "direction",
    }  # fmt: skip
    return pd.DataFrame([line, line | {"metric": "mcc", "value": np.nan}])


def evaluation(sessions: int) -> Any:
    verdict = SimpleNamespace(headline=SENTENCE, model="gru", skills=(), recurrence="")
    return SimpleNamespace(verdict=verdict, scores=scores(sessions), further={})


def record() -> pd.DataFrame:
    row = {
        "as_of": pd.Timestamp("2018-12-10"), "target_session": pd.Timestamp("2018-12-11"), "symbol": "BRK-B",
        "kind": "live", "p_up": 0.5236, "direction": "up", "outcome": np.nan, "realized_return": np.nan,
        "issued_at": pd.Timestamp("2018-12-10T22:00Z"), "settled_at": pd.NaT, "horizon": 1, "target": "direction",
        "model_version": "0123456789abcdef",
    }  # fmt: skip
    return pd.DataFrame([row])


def printed(monkeypatch: pytest.MonkeyPatch, width: int, show: str, *what: Any) -> list[str]:
    console = Console(width=width, record=True, quiet=False, highlight=False)
    monkeypatch.setattr(output, "console", console)
    getattr(output, show)(*what)
    return cast(str, console.export_text()).splitlines()


@pytest.mark.parametrize(("sessions", "reason"), [(3, "under 10 sessions"), (12, "not defined")])
def test_what_is_not_defined_is_a_dash_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, sessions: int, reason: str
) -> None:
    lines = printed(monkeypatch, 120, "show_evaluation", evaluation(sessions))
    assert "nan" not in "\n".join(lines).lower()
    line = next(line for line in lines if "log loss" in line)
    assert f"– ({reason})" in line
    assert line.split()[3] == "0.6931"
    assert next(line for line in lines if "MCC" in line).split()[2] == "–"


def test_brackets_of_a_sentence_are_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SENTENCE in printed(monkeypatch, 120, "show_evaluation", evaluation(12))


def test_the_record_fits_eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(monkeypatch, 80, "show_record", record(), 5)
    cells = ["2018-12-10", "2018-12-11", "BRK-B", "live", "52.4%", "up", "open", "–", "01234567"]
    assert lines[-1].split() == cells


def test_the_record_names_void_forecasts(monkeypatch: pytest.MonkeyPatch) -> None:
    void = record().assign(settled_at=pd.Timestamp("2018-12-12"), void_reason="the exchange was closed")
    lines = printed(monkeypatch, 80, "show_record", void, 5)
    assert lines[-2].split()[6] == "void"
    assert lines[-1] == "1 forecast is void: the exchange was closed"


def test_a_narrow_terminal_folds_and_cuts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = printed(monkeypatch, 80, "show_record", record(), 5)
    narrow = printed(monkeypatch, 50, "show_record", record(), 5)
    assert max(map(len, narrow)) <= 50 < max(map(len, wide))
    letters = [sorted("".join(lines).replace(" ", "").replace("─", "")) for lines in (wide, narrow)]
    assert letters[0] == letters[1]


def evening(**fields: Any) -> Any:
    report, place = a_report(**fields), Path("/w/reports/sample/2019-01-02")
    paths = Paths(place, place / "f.csv", place / "s.csv", place / "report.html", place.parent / "latest.csv")
    return SimpleNamespace(report=report, paths=paths, settled=0, new_rows=2)


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_shows_the_facts_of_the_page(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    lines = printed(monkeypatch, width, "show_evening", evening(model_age=OLD_MODEL + 1))
    text = " ".join(" ".join(lines).split())
    for fact in collect_key_facts(a_report(model_age=OLD_MODEL + 1)):
        assert f"{fact.name} {fact.text}; {fact.more}" in text
        assert fact.warning in text
    prose = [line for line in lines if "--head" not in line]
    assert max(map(len, prose)) <= width


def test_the_terminal_shows_coverage_and_survivorship(monkeypatch: pytest.MonkeyPatch) -> None:
    bias = "survivorship-biased: 12 of 30 entries of the list have no dates"
    lines = printed(monkeypatch, 80, "show_evening", evening(covered=29, members=30, bias=bias))
    assert f"29 of 30 constituents have a bar; {bias}" in " ".join(" ".join(lines).split())


def test_a_command_to_copy_stays_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(monkeypatch, 80, "show_evening", evening())
    assert f"  nextday ledger verify --head {a_report().ledger_head}" in lines


def test_many_symbols_without_a_forecast_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    skipped = pd.DataFrame({"symbol": [f"X{i}" for i in range(37)], "reason": "[delisted]"})
    lines = printed(monkeypatch, 80, "show_evening", evening(skipped=skipped))
    assert "no forecast for X0: [delisted]" in lines
    assert "no forecast for 32 more: the page lists them" in lines
