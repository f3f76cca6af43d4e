"""Evenings of fetching: how often Yahoo is asked, what a rerun asks, and a listing that changes its name."""

from dataclasses import replace

import pandas as pd
import pytest

from flows.evening.settlement import settle
from flows.runtime.context import Run
from pipeline.prices.ingest.fetch_plan import AUDIT_EVERY
from tests.support import street as street_module
from tests.support.street import Street, rules
from tests.support.yahoo_market import Broken

pytestmark = pytest.mark.slow

street = street_module.street

MONDAY, TUESDAY, WEDNESDAY, THURSDAY = "2018-12-10", "2018-12-11", "2018-12-12", "2018-12-13"


@pytest.mark.proof
def test_a_symbol_costs_two_requests_on_its_first_evening_and_one_on_each_later_one(street: Street) -> None:
    street.opens("A", "B", "C")
    evenings = street.sessions("2018-11-01", "2018-11-30")
    street.evening(evenings[0])
    assert [street.requests(s) for s in "ABC"] == [2, 2, 2]
    whole = []
    for session in evenings[1:]:
        street.server.requests.clear()
        street.evening(session)
        asked = [request for request in street.server.requests if request.symbol]
        assert sorted(request.symbol for request in asked) == ["A", "B", "C"]
        starts = {each.symbol: each.asked[0] for each in asked if each.asked}
        assert len(starts) == 3
        whole += [symbol for symbol, start in starts.items() if start < pd.Timestamp("2018-06-02", tz="UTC")]
    assert len(evenings) == AUDIT_EVERY + 1
    assert sorted(whole) == ["A", "B", "C"]


def test_a_second_run_of_an_evening_asks_nothing_until_a_bar_can_have_settled(street: Street) -> None:
    street.opens("A", "B")
    street.evening(MONDAY)
    street.requests("A")
    assert street.evening(MONDAY, hours=5).covered == 2
    assert street.requests("A") == 0
    street.evening(MONDAY, hours=19)  # before Tuesday's close: the bar of Monday has settled
    assert street.requests("A") == 1
    assert street.bars("A", as_of=pd.Timestamp(MONDAY))["status"].iloc[-1] == "settled"


def test_missed_evenings_are_one_request(street: Street) -> None:
    street.opens("A", "B")
    street.evening("2018-12-03")
    street.requests("A")
    street.evening(MONDAY)
    assert street.requests("A") == 1
    assert street.bars("A").index.tolist() == street.server.stocks["A"].traded[:MONDAY].index.tolist()


def test_a_start_that_is_moved_earlier_brings_the_older_bars_once(street: Street) -> None:
    street.first = "2018-01-02"
    street.opens("A", "B")
    settings = (street.folder / "nextday.toml").read_text()
    street.evening(MONDAY)
    assert street.bars("A").index[0] == pd.Timestamp("2018-06-01")
    (street.folder / "nextday.toml").write_text(settings.replace("2018-06-01", "2018-01-02"))
    street.evening(TUESDAY)
    assert street.bars("A").index[0] == pd.Timestamp("2018-01-02")
    street.requests("A")
    street.evening(TUESDAY, hours=3)
    assert street.requests("A") == 0


def test_a_symbol_of_another_exchange_is_refused_with_the_calendar_it_needs(street: Street) -> None:
    street.opens("A", "B", "C", "D", "E")
    street.server.stocks["F.L"] = replace(
        street.server.stocks["A"], timezone="Europe/London", opens="08:00", closes="16:30", early={}
    )
    street.lists(*street.server.stocks)
    market = street.evening(MONDAY)
    assert rules(market) == {"F.L": ["wrong calendar"]}
    assert "XLON" in market.findings["detail"].item()
    assert street.bars("F.L").empty


def test_a_forecast_under_the_old_name_is_settled_from_bars_of_the_new_one(street: Street) -> None:
    street.opens("A", "B", "C", "D", "E", "F")
    street.server.stocks["NEW"] = street.server.stocks["A"].with_quirks(Broken("not found", until=WEDNESDAY))
    street.quirk("A", Broken("not found", since=WEDNESDAY))
    street.lists(*"ABCDEF")
    street.evening(TUESDAY)
    issue(street.run(TUESDAY), "A")
    street.lists("NEW,,,,A", *"BCDEF")
    for session in (WEDNESDAY, THURSDAY):
        market = street.evening(session)
    run = street.run(THURSDAY)
    assert settle.fn(run, market, run.ledger.universe_record(run.name)) == 1
    (row,) = run.ledger.record("street").itertuples()
    close = street.server.stocks["NEW"].traded["close"]
    assert row.symbol == "A"
    assert row.realized_return == pytest.approx(close[WEDNESDAY] / close[TUESDAY] - 1, abs=1e-6)


def issue(run: Run, symbol: str) -> None:
    """Seal a forecast of Wednesday under the symbol's name of Tuesday."""
    now = pd.Timestamp(run.now)
    row = {
        "symbol": symbol, "as_of": pd.Timestamp(TUESDAY), "target_session": pd.Timestamp(WEDNESDAY), "horizon": 1,
        "model_version": "m", "issued_at": now, "p_up": 0.6, "low": 0.5, "high": 0.7, "direction": "up",
        "baseline_p_up": 0.5, "last_close": 1.0, "data_version": 1, "config_digest": "c", "role": "champion",
        "target": "direction",
    }  # fmt: skip
    days = dict.fromkeys(("as_of", "target_session"), "datetime64[us]")
    run.ledger.issue(
        pd.DataFrame([row]).astype({**days, "issued_at": "datetime64[us, UTC]"}),
        universe="street", opens={}, newest_observed_at=run.now, historical=True,
    )  # fmt: skip
