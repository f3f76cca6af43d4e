"""The decay alarm of an evening: sealed rows in, the page's words, stopped directions and a replay out."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flows.evening import decay as alarm
from flows.evening import forecasting
from flows.evening.decay import explain_decay, judge_record, stop_decayed, stop_directions
from flows.evening.forecasting import replay, seal
from flows.operations.decay_checks import check_decay
from flows.runtime.context import Run, open_run, with_former_settings
from pipeline.config import SIMULATED
from pipeline.monitoring.decay import Decay
from pipeline.outputs import MAIN, name_key
from tests.support.command_line import CommandLine, told

SETTINGS = '[universe]\nname = "made"\nsource = "files"\npath = "prices"\nsymbols = ["AAA", "BBB"]\n'
LAST = pd.Timestamp("2026-10-30")


@pytest.fixture
def make_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """Open a run of a live source on the settings, with another [alarm] if asked for."""
    monkeypatch.chdir(tmp_path)
    prices = Path("prices")
    prices.mkdir()
    days = pd.bdate_range("2026-10-01", LAST)
    for symbol in ("AAA", "BBB"):
        bars = pd.DataFrame({"date": days}).assign(open=10.0, high=10.0, low=10.0, close=10.0, volume=1)
        bars.to_csv(prices / f"{symbol}.csv", index=False)

    def opened(on_decay: str = "tell") -> Run:
        text = f'{SETTINGS}[prices]\nstart = 2026-01-02\n[alarm]\non_decay = "{on_decay}"\n'
        Path("nextday.toml").write_text(text)
        return open_run(Path("nextday.toml"), Path("w"))

    return opened


def forecasts(run: Run, as_of: pd.Timestamp, p: float = 0.75) -> pd.DataFrame:
    """Return tonight's rows of both symbols as the champion makes them."""
    issued = pd.Timestamp(run.calendar.closes[as_of]) + timedelta(hours=2)
    row = {
        "as_of": as_of, "target_session": run.calendar.next_session(as_of), "horizon": 1, "target": "direction",
        "model_version": "0123456789abcdef", "issued_at": issued, "p_up": p, "low": p - 0.02, "high": p + 0.02,
        "direction": "up", "baseline_p_up": 0.5, "last_close": 10.0, "data_version": 1,
        "config_digest": run.digest, "role": "champion",
    }  # fmt: skip
    frame = pd.DataFrame([{"symbol": symbol} | row for symbol in ("AAA", "BBB")])
    return frame.astype(
        {
            "as_of": "datetime64[us]",
            "target_session": "datetime64[us]",
            "issued_at": "datetime64[us, UTC]",
        }
    )


def seal_wrong(run: Run, sessions: int, after: timedelta = timedelta(0)) -> None:
    """Seal forecasts of so many sessions until LAST, every one of them confident, and wrong.

    `after`: how long after the evening; those of a simulation are late, all others live.
    """
    run.workspace.create()
    run.save_settings()
    record = run.ledger.universe_record(run.name)
    place = run.calendar.position(LAST)
    days = run.calendar.sessions[place - sessions : place]
    rows = pd.concat([forecasts(run, as_of) for as_of in days], ignore_index=True)
    rows["issued_at"] += after
    opens = {as_of: run.calendar.opens[run.calendar.next_session(as_of)].to_pydatetime() for as_of in days}
    observed_at = (rows["issued_at"].min() - timedelta(minutes=1)).to_pydatetime()
    record.issue(rows, opens=opens, newest_observed_at=observed_at, historical=run.in_simulation)
    closes = [run.calendar.closes[target] for target in rows["target_session"]]
    record.settle(
        rows[["symbol", "as_of", "target_session", "horizon", "target"]].assign(
            outcome=0.0,
            realized_return=-0.01,
            settled_at=pd.Series(closes).astype("datetime64[us, UTC]"),
            data_version=1,
            median_return=np.nan,
            median_members=np.nan,
            median_basis=None,
            void_reason=None,
        )
    )


def test_an_evening_says_what_it_knows(make_run: Callable[..., Run]) -> None:
    run = make_run()
    seal_wrong(run, 5)
    (decay,) = judge_record(run, run.ledger.universe_record(run.name))
    assert decay.title == "too early: 5 sessions"
    assert [check.is_passed for check in check_decay(run)] == [True]


def test_in_a_simulation_what_was_issued_after_the_open_does_not_count(make_run: Callable[..., Run]) -> None:
    run = make_run()
    simulation = replace(run, resolved={**run.resolved, SIMULATED: True})
    seal_wrong(simulation, 4, after=timedelta(days=1))  # caught up by a later evening
    seal_wrong(simulation, 30)  # the first row of a forecast stands
    record = simulation.ledger.universe_record(run.name)
    assert {*record.rows["kind"]} == {"late"}
    assert record.rows["as_of"].nunique() == 30
    (decay,) = judge_record(simulation, record)
    assert (decay.sessions, decay.state) == (26, "decayed")
    assert judge_record(run, record)[0].sessions == 0


def test_a_decayed_record_is_told_by_the_doctor_and_stops_nothing_by_itself(
    make_run: Callable[..., Run],
) -> None:
    run = make_run()
    seal_wrong(run, 80)
    record = run.ledger.universe_record(run.name)
    (decay,) = judge_record(run, record)
    assert (decay.state, decay.sessions, decay.against) == ("decayed", 80, "base rate")
    (check,) = check_decay(run)
    assert not check.is_passed
    assert f"live record: next session: decayed since {decay.since:%Y-%m-%d}; 80 live sessions" in check.what
    assert "nextday alarm accept" in check.fix
    assert stop_decayed(run, record) is run
    assert stop_directions(run, forecasts(run, LAST))["direction"].tolist() == ["up", "up"]


def test_a_stop_gives_no_direction_and_is_part_of_what_is_sealed_and_replayed(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run("stop")
    seal_wrong(run, 80)
    record = run.ledger.universe_record(run.name)
    halted = stop_decayed(run, record)
    assert halted.digest != run.digest
    assert with_former_settings(run, halted.digest).resolved["stopped"] == ["1"]
    made = forecasts(halted, LAST)
    rows = stop_directions(halted, made)
    assert rows["direction"].tolist() == ["none", "none"]
    pd.testing.assert_series_equal(rows["p_up"], made["p_up"])
    challengers = stop_directions(halted, made.assign(role="challenger"))
    assert challengers["direction"].tolist() == ["up", "up"]
    five = stop_directions(halted, made.assign(horizon=5))
    assert five["direction"].tolist() == ["up", "up"]

    seal.fn(halted, record, rows, LAST, rows["issued_at"].iloc[0])
    make_again(monkeypatch, run, p=0.75)
    again = replay(run, LAST)
    assert again.is_same
    assert len(again.rows) == 2
    # A replay that did not know of the stop would give other directions.
    monkeypatch.setattr(forecasting, "stop_directions", lambda run, rows: rows)
    assert not replay(run, LAST).is_same


def make_again(monkeypatch: pytest.MonkeyPatch, run: Run, p: float) -> None:
    """Let the sealed model, its data and its forecast function give the same probabilities again."""
    from types import SimpleNamespace

    sequences = SimpleNamespace(
        sessions=[LAST],
        symbols=("AAA", "BBB"),
        y=np.zeros((2, 1, 1)),
        outputs_of=lambda rows: np.zeros(len(rows), int),
    )
    known = SimpleNamespace(
        as_of=LAST, seq=1, sequences=sequences, panel=SimpleNamespace(last_close=np.array([[10.0, 10.0]]))
    )
    champion = SimpleNamespace(trained_through=pd.Timestamp("2026-01-05"), version="0123456789abcdef")
    made = [
        "model_version",
        "issued_at",
        "baseline_p_up",
        "last_close",
        "data_version",
        "config_digest",
        "role",
    ]
    rows = forecasts(run, LAST, p).drop(columns=made)
    monkeypatch.setattr(forecasting.Champions, "version", lambda self, version: champion)
    monkeypatch.setattr(forecasting, "_inputs", lambda *arguments: ())
    monkeypatch.setattr(forecasting, "_load", lambda *arguments: SimpleNamespace(base_rate=np.array([[0.5]])))
    monkeypatch.setattr(forecasting.make_sequences, "fn", lambda *arguments: known)
    monkeypatch.setattr(forecasting, "forecast", lambda *arguments: rows)
    monkeypatch.setattr("pipeline.prices.store.PriceStore.require_version", lambda self, seq: None)


def test_a_person_goes_on_and_it_is_written_down(
    make_run: Callable[..., Run],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = make_run("stop")
    nextday = CommandLine(tmp_path, monkeypatch, capsys)
    make_settings = Path("nextday.toml")
    make_settings.write_text(f'{SETTINGS}[prices]\nstart = 2026-01-02\n[alarm]\non_decay = "stop"\n')
    seal_wrong(run, 80)
    place = ("--config", "nextday.toml", "--home", "w")
    shown = nextday(*place, "alarm", "show")
    assert "next session: decayed since" in shown.out
    assert nextday(*place, "alarm", "accept", "--why", " ").code == 2
    assert nextday(*place, "alarm", "accept", "--why", "new features", "--by", "ada").code == 0
    (kept,) = json.loads(run.workspace.alarms("made").read_text())
    assert (kept["by"], kept["why"], kept["outputs"]) == ("ada", "new features", ["1"])
    assert kept["found"][0].startswith("decayed since")
    record = run.ledger.universe_record(run.name)
    assert [decay.title for decay in judge_record(run, record)] == ["too early: 0 sessions"]
    assert stop_decayed(run, record) is run
    shown = nextday(*place, "alarm", "show")
    assert "by ada: new features (decayed since" in shown.out
    refused = nextday(*place, "alarm", "accept", "--why", "again")
    assert refused.code == 2
    assert "There is no alarm to accept" in told(refused)[0]
    assert len(json.loads(run.workspace.alarms("made").read_text())) == 1


def test_acceptances_that_cannot_be_read_leave_the_alarm_standing(make_run: Callable[..., Run]) -> None:
    run = make_run("stop")
    seal_wrong(run, 80)
    path = run.workspace.alarms(run.name)
    path.parent.mkdir()
    path.write_text("[{")
    (decay,) = judge_record(run, run.ledger.universe_record(run.name))
    assert decay.state == "decayed"


def test_what_a_backtest_promised_is_measured_once(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    seal_wrong(run, 40)
    measured = []

    def measure(run: Run, version: str, digests: object) -> dict[str, float]:
        measured.append(version)
        return {name_key(MAIN): 0.01}

    from types import SimpleNamespace

    known = SimpleNamespace(model_version="0123456789abcdef", evaluation={})
    monkeypatch.setattr(alarm.Registry, "versions", lambda self, universe: [known])
    monkeypatch.setattr(alarm, "_measure_floors", measure)
    for _ in range(2):
        (decay,) = judge_record(run, run.ledger.universe_record(run.name))
        assert decay.floor == pytest.approx(0.01)
    assert measured == ["0123456789abcdef"]


def test_an_explanation_that_fails_costs_nothing_and_nothing_is_explained_where_all_is_well(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, champion = make_run(), None
    expected = Decay(MAIN, "as expected", 50)
    monkeypatch.setattr(alarm.make_sequences, "fn", lambda *arguments: 1 / 0)
    assert explain_decay(run, LAST, 1, champion, [expected]) == ""  # type: ignore[arg-type]
    said = explain_decay(run, LAST, 1, champion, [replace(expected, state="doubtful")])  # type: ignore[arg-type]
    assert said.startswith("Whether the inputs have drifted is not known")
