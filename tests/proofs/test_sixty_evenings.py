"""Sixty evenings of a Yahoo that fails for a third of the symbols in every way: in the end the truth stands."""

import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import SourceError
from pipeline.market.calendar import Calendar
from pipeline.prices.ingest.listing_status import find_listings, recent_bars
from pipeline.sources.yahoo import YahooSource
from tests.support import street as street_module
from tests.support.made_market import MadeMarket, make_market
from tests.support.street import Street
from tests.support.yahoo_quirks import Extra, Missing, Null, Twice, Unadjusted, Unlisted, Unsettled, late
from tests.support.yahoo_server import FAULTS

pytestmark = pytest.mark.proof

street = street_module.street

FIRST, LAST = "2018-06-01", "2018-12-28"
LISTINGS, EVENINGS = 12, 60
WAYS = sorted(FAULTS)


@dataclass(frozen=True, eq=False)
class Season:
    """Everything that was seen: the market's truth, the workspace, and what was known on each evening."""

    street: Street
    market: MadeMarket
    sessions: list[str]
    views: dict[str, tuple[pd.Timestamp, int, pd.DataFrame]]
    ways: set[str]


def way(symbol: str, clock: pd.Timestamp) -> str:
    """Return how the symbol fails on this day; a third of them does, and each day in another way."""
    draw = zlib.crc32(f"{symbol} {clock:%Y-%m-%d}".encode())
    return WAYS[draw // 3 % len(WAYS)] if draw % 3 == 0 else ""


def with_quirks(market: MadeMarket, sessions: list[str]) -> MadeMarket:
    """Let Yahoo get things wrong besides: actions late, bars unsettled, null, doubled, missing, on a Sunday."""
    wild = {"volume": 0.73, "high": 1.01, "low": 0.99}
    made = {}
    for number, (name, listing) in enumerate(market.listings.items()):
        quirks = [Unsettled(wild, session, until=after) for session, after in pairwise(sessions)]
        quirks += [Twice(factors={"volume": 0.5})] if number % 4 == 0 else []
        quirks += [Null(sessions[20 + number], until=sessions[23 + number])] if number % 3 == 0 else []
        quirks += [Missing(sessions[25 + number], until=sessions[29 + number])] if number % 3 == 1 else []
        quirks += [Extra("2018-11-11", until="2018-11-20")] if number % 3 == 2 else []
        for place, day in enumerate(sorted({*listing.stock.splits, *listing.stock.dividends})):
            fixed = f"{listing.stock.after(day, 3):%Y-%m-%d}"
            kinds = [late(day, fixed), (Unlisted(day, until=fixed),), (Unadjusted(day, until=fixed),), ()]
            quirks += kinds[(number + place) % 4]
        made[name] = replace(listing, stock=listing.stock.with_quirks(*quirks))
    return MadeMarket(made)


def gone(market: MadeMarket) -> str:
    """Return the one listing that was delisted."""
    end = pd.Timestamp(LAST, tz="UTC")
    (name,) = [name for name, listing in market.listings.items() if listing.stock.failing(end)]
    return name


@pytest.fixture(scope="module")
def season(tmp_path_factory: pytest.TempPathFactory, xnys: Calendar) -> Iterator[Season]:
    """Live through the sixty evenings, and two quiet ones after them, on which what came late settles."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setitem(YahooSource.__init__.__kwdefaults__, "timeout", 1.0)
        street_fixture = street_module.street.__wrapped__  # type: ignore[attr-defined]
        place = street_fixture(tmp_path_factory.mktemp("season"), xnys, monkeypatch)
        street = next(place)
        yield live(street, make_market(xnys, FIRST, LAST, listings=LISTINGS, busy=EVENINGS))
        next(place, None)


def live(street: Street, market: MadeMarket) -> Season:
    all_sessions = street.sessions(FIRST, LAST)
    sessions, ways = all_sessions[-EVENINGS:], set[str]()
    market = with_quirks(market, sessions)
    street.server.stocks = dict(market.stocks)
    renamed = {old: listing.renamed for old, listing in market.listings.items() if listing.renamed}
    views = {}

    def evening(session: str, now_called: dict[str, str]) -> None:
        street.lists(*(f"{now_called[s]},,,,{s}" if s in now_called else s for s in market.listings))
        with suppress(SourceError):  # a third of the symbols is missing: too many to publish
            street.evening(session)
        run = street.run(session)
        views[session] = (pd.Timestamp(run.now), run.store.seq(), run.store.read())

    for session in sessions:
        # A person joins the names two evenings after the old one has gone.
        joined = {old: new for old, (new, day) in renamed.items() if session > street.sessions(day, LAST)[1]}
        street.server.failing = way
        evening(session, joined)
        ways |= {request.fault for request in street.server.requests}
        street.server.requests.clear()
    street.server.failing = lambda symbol, clock: ""
    for session in street.sessions("2018-12-31", "2019-01-03"):
        evening(session, {old: new for old, (new, _) in renamed.items()})
    return Season(street, market, sessions, views, ways)


def test_what_happened_is_what_was_asked_for(season: Season) -> None:
    actions = season.market.actions
    assert ((actions["split"] != 1).sum(), (actions["dividend"] > 0).sum()) == (2, 11)
    assert sum(listing.renamed is not None for listing in season.market.listings.values()) == 1
    assert season.ways >= set(WAYS)


def test_the_bars_and_actions_in_the_end_are_the_truth(season: Season) -> None:
    bars = season.street.run(LAST).store.read(pd.Timestamp(LAST)).set_index(["instrument_id", "session"])
    truth = season.market.traded.set_index(["instrument_id", "session"]).sort_index()
    assert bars.index.equals(truth.index)
    # Nobody ever said what became of the last bar of the one that was delisted the day after.
    is_settled = (bars["status"] == "settled").to_numpy()
    (last,) = bars.index[~is_settled]
    assert last == (gone(season.market), bars.loc[last[0]].index[-1])
    for name in ("open", "high", "low", "close"):
        np.testing.assert_allclose(bars[name][is_settled], truth[name][is_settled], rtol=1e-6)
    # A reverse split rounds what went before it to whole shares of later.
    np.testing.assert_allclose(bars["volume"][is_settled], truth["volume"][is_settled], rtol=1e-4)
    acted = bars[(bars["split"] != 1) | (bars["dividend"] != 0)]
    actions = season.market.actions.set_index(["instrument_id", "session"])
    for name in ("split", "dividend"):
        np.testing.assert_allclose(acted.sort_index()[name], actions.sort_index()[name], rtol=1e-6)


def test_the_adjusted_history_in_the_end_is_the_truth_to_a_millionth(season: Season) -> None:
    store = season.street.run(LAST).store.read(pd.Timestamp(LAST))
    for name, bars in store.groupby("instrument_id"):
        adjusted = season.street.adjusted(bars.set_index("session"))
        truth = season.market.total_return[name].dropna()
        np.testing.assert_allclose(adjusted, truth, rtol=1e-6)


@pytest.mark.parametrize("by", ["known_at", "seq"])
def test_every_evenings_view_is_what_was_known_that_evening(season: Season, by: str) -> None:
    store = season.street.run("2018-12-31").store
    assert len(season.views) == EVENINGS + 3
    for now, seq, known in season.views.values():
        asked = {"known_at": now} if by == "known_at" else {"seq": seq}
        again = store.read(**asked)  # type: ignore[arg-type]
        assert len(again) == len(known)
        if not known.empty:  # names are shown as they are now
            pd.testing.assert_frame_equal(again.drop(columns="symbol"), known.drop(columns="symbol"))


def test_no_view_ever_held_a_bar_that_was_no_session_a_future_or_a_wrong_price(season: Season) -> None:
    truth = season.market.traded.set_index(["instrument_id", "session"])
    for session, (_, _, known) in season.views.items():
        assert not (known["session"] > pd.Timestamp(session)).any()
        bars = known[known["session"] <= pd.Timestamp(LAST)].set_index(["instrument_id", "session"])
        np.testing.assert_allclose(bars["close"], truth["close"].reindex(bars.index), rtol=1e-6)


def test_nothing_stands_twice_and_revisions_are_few(season: Season) -> None:
    versions = season.street.run(LAST).store.versions()
    assert not versions.duplicated(["instrument_id", "session", "seq"]).any()
    # One row when a bar comes, one when it settles, and a few for what was late.
    busy = versions[versions["session"] >= pd.Timestamp(season.sessions[0])]
    assert len(busy) < 2.2 * LISTINGS * (EVENINGS + 3)


def test_the_delisted_one_is_a_state_and_nobody_stays_in_quarantine(season: Season) -> None:
    run = season.street.run("2019-01-03")
    assert run.fetch_log.quarantined() == {}
    assert set(run.fetch_log.events()["event"]) == {"held", "ended"}
    symbols = run.universe.symbols
    bars = recent_bars(run.store, run.calendar, symbols, pd.Timestamp(LAST))
    listings = find_listings(bars, run.fetch_log, run.calendar, symbols, pd.Timestamp(LAST))
    assert [symbol for symbol, each in listings.items() if each.state == "delisted"] == [gone(season.market)]
