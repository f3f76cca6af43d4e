"""Evenings with several targets: from prices to sealed rows, outcomes, replay and reports; and whose median counts."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from flows.backtest import backtest
from flows.evening.forecasting import replay
from flows.evening.settlement import settle
from flows.nightly import Evening, nightly
from flows.runtime.context import Run, open_run
from pipeline.errors import NextdayError
from pipeline.ledger.ledger import Ledger
from pipeline.market.calendar import Calendar
from pipeline.outputs import Output
from tests.conftest import random_bars, small_settings
from tests.support import street as street_module
from tests.support.own_process import EVENING
from tests.support.street import Street
from tests.support.yahoo_market import Broken

pytestmark = [pytest.mark.slow, pytest.mark.own_process(*EVENING)]

street = street_module.street

TARGETS = ["direction", "relative", "overnight", "overnight_relative", "intraday"]
SYMBOLS = "ABCDEFG"
MONDAY, TUESDAY = pd.Timestamp("2018-12-10"), pd.Timestamp("2018-12-11")
SETTINGS = f"""
[universe]
name = "several"
source = "files"
path = "prices.csv"
historical = true
[labels]
targets = {TARGETS!r}
horizons = [1, 3]
{small_settings("2017-01-03")}
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, xnys: Calendar) -> tuple[Path, list[Evening], pd.DataFrame]:
    """Two evenings on a market of seven stocks; G prints the close before as its open."""
    folder = tmp_path_factory.mktemp("several")
    sessions = xnys.sessions_between(pd.Timestamp("2017-01-03"), TUESDAY)
    parts = []
    for seed, symbol in enumerate(SYMBOLS):
        bars = random_bars(sessions, seed)
        part = np.random.default_rng(seed).uniform(0.1, 0.9, len(bars))
        opens = bars["low"] + part * (bars["high"] - bars["low"])
        if symbol == "G":
            opens = bars["close"].shift().fillna(opens.iloc[0]).clip(bars["low"], bars["high"])
            bars = bars.assign(high=np.maximum(bars["high"], bars["close"].shift().fillna(0)))
            bars = bars.assign(low=np.minimum(bars["low"], bars["close"].shift().fillna(np.inf)))
            opens = bars["close"].shift().fillna(opens.iloc[0])
        parts.append(bars.assign(symbol=symbol, open=opens).rename(columns={"session": "date"}))
    prices = pd.concat(parts)[["symbol", "date", "open", "high", "low", "close", "volume"]]
    (folder / "nextday.toml").write_text(SETTINGS)
    evenings = []
    for session in (MONDAY, TUESDAY):
        prices[prices["date"] <= session].to_csv(folder / "prices.csv", index=False)
        now = (xnys.closes[session] + timedelta(days=2)).to_pydatetime()
        evenings.append(nightly.fn(config=folder / "nextday.toml", home=folder / "data", now=now))
    return folder, evenings, prices.set_index(["symbol", "date"])


def test_each_target_and_horizon_has_its_own_row(two: tuple[Path, list[Evening], pd.DataFrame]) -> None:
    _, evenings, _ = two
    rows = evenings[0].report.forecasts
    counts = rows.groupby(["target", "horizon"]).size().to_dict()
    assert counts == {
        ("direction", 1): 7, ("direction", 3): 7, ("relative", 1): 7, ("relative", 3): 7,
        ("overnight", 1): 6, ("overnight_relative", 1): 6, ("intraday", 1): 6,
    }  # fmt: skip
    assert "G" not in set(rows.loc[rows["target"].str.startswith("overnight"), "symbol"])
    said = rows.groupby("target")["direction"].agg(set)
    assert said["relative"] | said["overnight_relative"] <= {"above", "below", "none"}
    assert said["direction"] | said["overnight"] | said["intraday"] <= {"up", "down", "none"}


def test_outcomes_are_what_a_pencil_says(two: tuple[Path, list[Evening], pd.DataFrame]) -> None:
    folder, evenings, prices = two
    record = Ledger(folder / "data" / "ledger.sqlite").record("several")
    settled = record[(record["as_of"] == MONDAY) & (record["horizon"] == 1)]
    assert evenings[1].settled == len(settled) == 7 + 7 + 6 + 6 + 6
    day, before = (prices.xs(session, level="date") for session in (TUESDAY, MONDAY))
    parts = {
        "direction": day["close"] / before["close"] - 1,
        "overnight": (day["open"] / before["close"] - 1).drop("G"),
        "intraday": (day["close"] / day["open"] - 1).drop("G"),
    }
    for row in settled.itertuples():
        output = Output(row.target, row.horizon)
        returns = parts[output.part]
        assert row.realized_return == pytest.approx(returns[row.symbol], abs=1e-9)
        median = returns.median() if output.is_relative else 0.0
        excess = returns[row.symbol] - median
        assert row.outcome == float(excess > 0) if abs(excess) > 1e-12 else np.isnan(row.outcome)
        if output.is_relative:
            assert row.median_return == pytest.approx(median, abs=1e-9)
            assert (row.median_members, row.median_basis) == (len(returns), "90%")
        else:
            assert pd.isna(row.median_return)


def test_a_second_run_seals_nothing_and_a_replay_is_the_same(
    two: tuple[Path, list[Evening], pd.DataFrame], xnys: Calendar
) -> None:
    folder, _, _ = two
    now = (xnys.closes[TUESDAY] + timedelta(days=2, hours=1)).to_pydatetime()
    again = nightly.fn(config=folder / "nextday.toml", home=folder / "data", now=now)
    assert (again.new_rows, again.settled) == (0, 0)
    run = open_run(folder / "nextday.toml", folder / "data", now)
    replayed = replay(run, TUESDAY)
    assert replayed.is_same
    assert len(replayed.rows) == len(again.report.forecasts)
    assert run.ledger.verify().ok


def test_every_output_is_scored_judged_and_reported(two: tuple[Path, list[Evening], pd.DataFrame]) -> None:
    _, evenings, _ = two
    report, paths = evenings[1].report, evenings[1].paths
    outputs = {Output(*key) for key in report.scores[["target", "horizon"]].drop_duplicates().to_numpy()}
    assert outputs == {Output("direction", 1), *report.further}
    assert len(report.further) == 6
    for output, verdict in report.further.items():
        assert [skill.name for skill in verdict.skills] == (
            ["picking"] if output.is_relative else ["timing", "picking"]
        )
    models = report.scores.groupby("target")["model"].agg(set)
    assert {"last_overnight", "mean_overnight_20"} <= models["overnight"]
    assert not {"last_overnight", "mean_overnight_20"} & models["direction"]
    page = paths.html.read_text()
    for said in (
        "overnight against the median",
        "3 sessions ahead against the median",
        "tells the next opening",
    ):
        assert said in page
    table = pd.read_csv(paths.forecast_csv)
    assert table.columns[-1] == "target"
    assert list(dict.fromkeys(table["target"])) == TARGETS


def seal(run: Run, symbols: str) -> None:
    """Seal forecasts of Tuesday against the median."""
    rows = pd.DataFrame({"symbol": [*symbols]}).assign(
        as_of=MONDAY, target_session=TUESDAY, horizon=1, target="relative", model_version="m",
        issued_at=pd.Timestamp(run.now), p_up=0.6, low=0.5, high=0.7, direction="above", baseline_p_up=0.5,
        last_close=1.0, data_version=1, config_digest="c", role="champion",
    )  # fmt: skip
    days = dict.fromkeys(("as_of", "target_session"), "datetime64[us]")
    run.ledger.issue(
        rows.astype({**days, "issued_at": "datetime64[us, UTC]"}),
        universe="street", opens={}, newest_observed_at=run.now, historical=True,
    )  # fmt: skip


def test_a_backtest_trades_and_tracks_every_output_that_orders_can_reach(
    two: tuple[Path, list[Evening], pd.DataFrame],
) -> None:
    folder, _, _ = two
    config = folder / "walk.toml"
    walk = "[backtest]\ntrain_sessions = 200\nrefit_sessions = 250\n"
    config.write_text((folder / "nextday.toml").read_text() + walk)
    made = backtest.fn(config=config, home=folder / "data", now=datetime(2018, 12, 14, tzinfo=UTC))
    reached = [Output("relative", 1), Output("intraday", 1)]
    assert [*made.backtest.further_trading] == reached
    numbers = pd.read_csv(made.paths["trading.csv"])
    assert {*zip(numbers["target"], numbers["horizon"], strict=True)} == {("direction", 1), *reached}
    page = made.paths["report.html"].read_text()
    assert "<h3>Longs and shorts: next session against the median</h3>" in page
    client = MlflowClient(f"sqlite:///{folder}/data/mlflow.db")
    (run,) = client.search_runs(
        [client.get_experiment_by_name("nextday-several").experiment_id], "tags.record = 'backtest'"
    )
    assert run.data.tags["verdict_relative_1"] == made.backtest.further[reached[0]].conclusion
    assert {
        "trading/logistic.sharpe",
        "trading/relative_1.logistic.sharpe",
        "trading/intraday_1.logistic.sharpe",
    } <= {*run.data.metrics}


def test_a_median_waits_for_the_members_but_not_for_ever(street: Street) -> None:
    street.opens(*SYMBOLS)
    street.quirk("G", Broken("not found", since="2018-12-11"))
    sessions = street.sessions("2018-12-10", "2018-12-20")
    street.evening(sessions[0])
    seal(street.run(sessions[0]), SYMBOLS)
    settled = []
    for session in sessions[1:]:
        market, run = street.evening(session), street.run(session)
        settled.append(settle.fn(run, market, run.ledger.universe_record(run.name)))
    # Six of seven bars are less than 90%: they wait until five sessions have passed since Tuesday.
    assert settled == [0, 0, 0, 0, 0, 6, 0, 0]
    record = street.run(sessions[-1]).ledger.record("street").set_index("symbol")
    assert record["median_basis"].drop("G").tolist() == ["5 sessions"] * 6
    assert record["median_members"].drop("G").tolist() == [6.0] * 6
    assert pd.isna(record.loc["G", "outcome"])
    closes = {symbol: street.server.stocks[symbol].traded["close"] for symbol in "ABCDEF"}
    moves = pd.Series({symbol: close[TUESDAY] / close[MONDAY] - 1 for symbol, close in closes.items()})
    assert record["median_return"].iloc[0] == pytest.approx(moves.median(), abs=1e-6)
    assert record["outcome"].drop("G").tolist() == (moves > moves.median()).astype(float).tolist()


def test_a_symbol_that_has_left_the_list_is_settled_by_its_own_bars(street: Street) -> None:
    street.opens(*SYMBOLS)
    sessions = street.sessions("2018-12-10", "2018-12-13")
    street.evening(sessions[0])
    seal(street.run(sessions[0]), SYMBOLS)
    for session in sessions[1:3]:  # by the second one all bars of Tuesday have settled
        street.evening(session)
    street.lists(*SYMBOLS[1:])  # A is no constituent any more
    market, run = street.evening(sessions[3]), street.run(sessions[3])
    settle.fn(run, market, run.ledger.universe_record(run.name))
    record = run.ledger.record("street").set_index("symbol")
    for symbol in SYMBOLS:
        close = street.server.stocks[symbol].traded["close"]
        assert record.loc[symbol, "realized_return"] == pytest.approx(
            close[TUESDAY] / close[MONDAY] - 1, abs=1e-6
        )
    assert record["median_members"].tolist() == [6.0] * 7  # A counts in no median: it is no constituent


def test_targets_that_the_champion_never_learned_are_told_with_the_fix(
    two: tuple[Path, list[Evening], pd.DataFrame], xnys: Calendar, tmp_path: Path
) -> None:
    folder, _, _ = two
    shutil.copytree(folder, tmp_path / "copy")
    config = tmp_path / "copy" / "nextday.toml"
    config.write_text(config.read_text().replace(repr(TARGETS), "['intraday_relative']"))
    now = (xnys.closes[TUESDAY] + timedelta(days=3)).to_pydatetime()
    with pytest.raises(NextdayError, match="the settings ask for intraday against the median") as told:
        nightly.fn(config=config, home=tmp_path / "copy" / "data", now=now)
    assert "nextday retrain" in told.value.fix
