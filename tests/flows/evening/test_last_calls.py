"""How last evening's calls turned out, and why forecasts are late."""

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from flows.evening.last_calls import judge_last_calls
from flows.evening.lateness import explain_late
from flows.prices.missing import Reasons
from flows.prices.update import read_price_status
from flows.runtime.context import open_run
from pipeline.market.calendar import Calendar
from pipeline.outputs import MAIN
from pipeline.prices.ingest.quality import no_findings
from pipeline.report.facts import collect_key_facts
from tests.pipeline.report.test_files import a_report
from tests.support.command_line import MONDAY, TUESDAY, CommandLine, seal_one


def test_a_call_is_judged_by_the_stored_close_before_it_is_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nextday = CommandLine(tmp_path, monkeypatch, capsys)
    seal_one()  # up, from 2637.72
    assert nextday("--home", "w", "update", "--now", "2018-12-11T23:00Z").code == 0
    run = open_run(Path("nextday.toml"), Path("w"), datetime(2018, 12, 11, 23, tzinfo=UTC))
    status = read_price_status(run, Reasons(), no_findings())
    calls = judge_last_calls(run, status, run.ledger.universe_record(run.name), MAIN)
    (call,) = calls.to_dict("records")
    assert (call["symbol"], call["call"], call["is_settled"]) == ("^GSPC", "wrong", False)
    assert call["realized_return"] == pytest.approx(2636.78 / 2637.72 - 1, abs=1e-6)
    report = a_report(last_calls=calls)
    fact = collect_key_facts(report)[0]
    assert (fact.name, fact.text) == ("last calls", "0 of 1 right")
    assert fact.more == "forecast for Tue 2018-12-11; provisional until the next settled bars"
    assert report.last_call == {"^GSPC": "wrong"}
    earlier = read_price_status(run, Reasons(), no_findings(), as_of=MONDAY)
    assert judge_last_calls(run, earlier, run.ledger.universe_record(run.name), MAIN).empty


@pytest.mark.parametrize(
    ("changed", "cause"),
    [
        ({}, ""),
        ({"historical": True}, "the prices end in the past"),
        ({"simulated": True}, "this run was given a clock (--now)"),
        ({"historical": True, "in a simulation": True}, "simulated"),
        (
            {"issued": "2018-12-11T15:00Z"},
            "issued after Tue 2018-12-11 had opened (Tue 2018-12-11 14:30 UTC)",
        ),
        (
            {"observed": "2018-12-10T23:00Z"},
            "the newest price was observed afterwards (Mon 2018-12-10 23:00 UTC)",
        ),
        ({"earlier": "2018-12-10T22:30Z"}, "forecasts of earlier sessions were issued afterwards"),
        (
            {"issued": "2018-12-11T15:00Z", "added": "2018-12-11T22:00Z"},
            "issued after Tue 2018-12-11 had opened (Tue 2018-12-11 14:30 UTC)",
        ),
    ],
)
def test_late_names_the_cause_that_applied(xnys: Calendar, changed: dict[str, Any], cause: str) -> None:
    run: Any = SimpleNamespace(
        is_historical="historical" in changed,
        is_simulated="simulated" in changed,
        in_simulation="in a simulation" in changed,
        calendar=xnys,
    )
    issued = pd.Timestamp(changed.get("issued", "2018-12-10T22:00Z"))
    row = {"as_of": MONDAY, "target_session": TUESDAY, "issued_at": issued, "is_new": True}
    standing = pd.DataFrame([row | {"kind": "late" if changed else "live"}])
    friday = {
        "as_of": pd.Timestamp("2018-12-07"),
        "issued_at": pd.Timestamp(changed.get("earlier", "2018-12-07T22:00Z")),
    }
    added = [friday | {"issued_at": pd.Timestamp(changed["added"])}] if "added" in changed else []
    observed = pd.Timestamp(changed.get("observed", "2018-12-10T21:50Z"))
    assert explain_late(run, standing, pd.DataFrame([friday, row, *added]), observed) == cause
