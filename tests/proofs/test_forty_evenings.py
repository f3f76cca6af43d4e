"""Forty evenings with a Yahoo that contradicts itself about a third of the symbols each time.

Twelve listings walk at random; two split, eleven dividends are paid, one is renamed, one is delisted, and Yahoo learns
of half of the actions two sessions late. What is stored on an evening is what was shown on it, but for what contradicts
the store: that stays out. In the end the store holds the truth, and every evening's view can still be read.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from flows.prices.update import update_prices
from flows.runtime.context import Run
from pipeline.errors import SourceError
from pipeline.market.calendar import Calendar
from tests.support import street as street_module
from tests.support import yahoo_quirks as quirks
from tests.support.made_market import Listing, make_market
from tests.support.street import Street
from tests.support.yahoo_market import PRICES, Quirk, Shown, Stock
from tests.support.yahoo_server import Request

street = street_module.street

pytestmark = pytest.mark.proof

FIRST, LAST, EVENINGS = "2018-06-01", "2018-12-31", 40
HEALTHY = 3
"""Evenings at the end on which nothing goes wrong."""
NOTICED = 3
"""Sessions after the renaming on which a person writes it into the universe's file."""
LIMITED = {10: "S03", 25: "S07"}
"""On these evenings Yahoo answers 429 when it is asked for that symbol."""
GRAVE = 1.2
"""A close that is wrong by more than this factor must not be stored."""
STANDS = 5
"""Sessions that a leap with no split listed must have stood for."""

Way = Callable[[Stock, list[str]], Quirk]
"""Makes tonight's quirk of the truth and the sessions up to tonight."""

DATA: dict[str, Way] = {
    "null row": lambda stock, days: quirks.Null(days[-1]),
    "older null rows": lambda stock, days: quirks.Null(days[-4], days[-2]),
    "missing row": lambda stock, days: quirks.Missing(days[-1]),
    "older rows missing": lambda stock, days: quirks.Missing(days[-6], days[-2]),
    "the day twice": lambda stock, days: quirks.Twice(days[-1], {"volume": 0.7}),
    "an older row twice": lambda stock, days: quirks.Twice(days[-3], {"close": 0.999}),
    "sunday": lambda stock, days: quirks.Extra(sunday_before(days[-1])),
    "no order": lambda stock, days: quirks.Unsorted(),
    "unsettled": lambda stock, days: quirks.Unsettled({"volume": 1 / 0.73, "high": 1.01, "close": 1.002}),
    "one close": lambda stock, days: quirks.Unsettled({"close": 0.999}, days[-3]),
    "pence": lambda stock, days: quirks.Rescaled(100),
    "pence as GBp": lambda stock, days: quirks.Rescaled(0.01, "GBp"),
    "pence in part": lambda stock, days: quirks.Rescaled(100, last=days[-4]),
    "another company": lambda stock, days: quirks.Replaced(replacement(stock)),
}
SPLIT: dict[str, Way] = {
    "split not in the prices": lambda stock, days: quirks.Unadjusted(*stock.splits),
    "split not listed": lambda stock, days: quirks.Unlisted(*stock.splits),
    "split twice": lambda stock, days: quirks.ListedTwice(*stock.splits),
    "split in part": lambda stock, days: quirks.Unadjusted(*stock.splits, last=stock_day(stock, -5)),
}


def sunday_before(day: str) -> str:
    return f"{pd.Timestamp(day) - pd.Timedelta(days=pd.Timestamp(day).weekday() + 1):%Y-%m-%d}"


def stock_day(stock: Stock, sessions: int) -> str:
    """Return the session that many sessions from the split on."""
    return f"{stock.after(*stock.splits, sessions):%Y-%m-%d}"


def replacement(stock: Stock) -> Stock:
    """Return a company that has nothing to do with it, with the same hours."""
    days = stock.traded.index
    walk = np.exp(np.random.default_rng(999).normal(0, 0.03, len(days)).cumsum())
    close = pd.Series(7 * walk, days)
    return Stock(
        pd.DataFrame(
            {"open": close, "high": close * 1.01, "low": close * 0.99, "close": close, "volume": 5e5}
        )
    )


def as_traded(shown: Shown, since: pd.Timestamp) -> pd.DataFrame:
    """Return what was shown from `since` on, undone by the splits that were listed there.

    Of two rows of a session yfinance takes the first, on the newest session the last.
    """
    bars = shown.bars[shown.bars.index >= since].sort_values("stamp", kind="stable")
    is_newest = bars.index == bars.index[-1]
    bars = bars[
        np.where(is_newest, ~bars.index.duplicated(keep="last"), ~bars.index.duplicated(keep="first"))
    ]
    factor = np.ones(len(bars))
    for event in shown.events:
        if event.kind == "split" and event.session >= since:
            factor[bars.index < event.session] *= event.step
    return bars.assign(**bars[PRICES].mul(factor, axis=0), volume=bars["volume"].round() / factor)


def leaps(stock: Stock, shown: Shown) -> bool:
    """Whether a split has just shown in the closes, and is not listed."""
    listed = {event.session for event in shown.events if event.kind == "split"}
    days = shown.bars["close"].dropna().index.unique()
    split = pd.Timestamp(next(iter(stock.splits), "2200-01-01"))
    return split not in listed and 0 < (days >= split).sum() <= STANDS


class Trial:
    """The market on the street, and what goes wrong on which evening."""

    def __init__(self, street: Street, days: Calendar) -> None:
        self.street, self.market = street, make_market(days, FIRST, LAST, busy=EVENINGS)
        self.sessions = street.sessions(FIRST, LAST)
        self.evenings = self.sessions[-EVENINGS:]
        self.stocks = {name: self.late(stock) for name, stock in self.market.stocks.items()}
        self.rng = np.random.default_rng(1)
        self.met: Counter[str] = Counter()
        self.graves = 0

    @staticmethod
    def late(stock: Stock) -> Stock:
        """Let Yahoo learn of every split and every second dividend two sessions late."""
        days = [*stock.splits, *list(stock.dividends)[::2]]
        return stock.with_quirks(*(q for day in days for q in quirks.late(day, stock.after(day, 2))))

    def current(self, listing: Listing, evening: str) -> str:
        """Return the symbol that the universe's file has on an evening."""
        if listing.renamed and pd.Timestamp(evening) >= listing.stock.after(listing.renamed[1], NOTICED):
            return listing.renamed[0]
        return listing.instrument_id

    def is_spared(self, listing: Listing, evening: str) -> bool:
        """Whether it is about to be delisted: what nobody can ask for again must be right the first time."""
        last = listing.stock.traded.index[-1]
        return last < pd.Timestamp(LAST) and pd.Timestamp(evening) >= last - pd.Timedelta(days=7)

    def open(self, evening: str) -> dict[str, Listing]:
        """Set the universe and what goes wrong on an evening; return the listings by their symbols."""
        number = self.evenings.index(evening)
        named = {self.current(each, evening): each for each in self.market.listings.values()}
        self.street.lists(
            *(s if s == each.instrument_id else f"{s},,,,{each.instrument_id}" for s, each in named.items())
        )
        self.street.server.stocks = dict(self.stocks)
        self.street.server.failing = lambda symbol, clock: (
            "rate limited" if LIMITED.get(number) == symbol else ""
        )
        symbols = [symbol for symbol, each in named.items() if not self.is_spared(each, evening)]
        if number < EVENINGS - HEALTHY:
            for symbol in self.rng.choice(symbols, len(named) // 3, replace=False):
                self.trouble(str(symbol), named[symbol].stock, evening)
        return named

    def trouble(self, symbol: str, stock: Stock, evening: str) -> None:
        """Let the next way go wrong for a symbol, tonight only."""
        day = pd.Timestamp(evening)
        has_split = any(pd.Timestamp(split) <= day - pd.Timedelta(days=7) for split in stock.splits)
        ways = SPLIT if has_split else DATA
        way = min(ways, key=lambda each: self.met[each])
        self.met[way] += 1
        until = self.sessions[: self.sessions.index(evening) + 1]
        quirk = {**DATA, **SPLIT}[way](stock, until)
        span = {"since": evening, "until": f"{day + pd.Timedelta(days=1):%Y-%m-%d}"}
        self.street.quirk(symbol, type(quirk)(**{**vars(quirk), **span}))

    def answered(self, run: Run) -> dict[str, Request]:
        """Return tonight's requests for bars that were answered, by symbol."""
        tonight = [r for r in self.street.server.requests if r.clock == pd.Timestamp(run.now)]
        return {r.symbol: r for r in tonight if r.kind == "bars" and not r.fault}


def fetch(run: Run) -> None:
    """Fetch and keep; that too few symbols came for a forecast is no matter here."""
    with suppress(SourceError):
        update_prices(run)


def check_evening(trial: Trial, run: Run, named: dict[str, Listing], stored: pd.DataFrame) -> None:
    """What came in tonight is what was shown, and what contradicts the store stayed out."""
    holds = {hold.symbol for hold in run.fetch_log.quarantined().values()}
    new = stored[stored["observed_at"] == pd.Timestamp(run.now)]
    answered = trial.answered(run)
    assert set(new["symbol"]) <= set(answered)
    for symbol, request in answered.items():
        stock, since = trial.street.server.stocks[symbol], request.asked[0].tz_localize(None).normalize()
        said = stock.shown(stock.clock(request.clock))
        shown = as_traded(said, since)
        truth = named[symbol].stock.traded.reindex(shown.index)
        is_wrong = bool((np.log(shown["close"] / truth["close"]).abs() > np.log(GRAVE)).any())
        is_grave = is_wrong or leaps(stock, said)
        mine = new[new["symbol"] == symbol].set_index("session")
        assert (symbol in holds) == is_grave, symbol
        trial.graves += is_grave
        if is_grave:
            assert mine.empty
        else:
            told = shown.loc[mine.index]
            # A close or an open a little outside its range widens it.
            told = told.assign(
                high=told[["open", "high", "close"]].max(axis=1),
                low=told[["open", "low", "close"]].min(axis=1),
            )
            np.testing.assert_allclose(mine[PRICES], told[PRICES], rtol=1e-6)
            np.testing.assert_allclose(mine["volume"], told["volume"], rtol=1e-12)


def check_the_end(trial: Trial, run: Run) -> None:
    """The store holds the truth to 1e-6, every session of it and nothing else; nobody is held."""
    assert run.fetch_log.quarantined() == {}
    stored = run.store.read()
    for name, listing in trial.market.listings.items():
        mine = stored[stored["instrument_id"] == name].set_index("session")
        truth = listing.stock.traded
        assert mine.index.tolist() == truth.index.tolist(), name
        np.testing.assert_allclose(mine[PRICES], truth[PRICES], rtol=1e-6)
        # A vendor rounds volumes after a split to whole shares: half a share of now is some shares of then.
        np.testing.assert_allclose(mine["volume"], truth["volume"], atol=2)
        acted = mine.loc[mine["split"].ne(1) | mine["dividend"].ne(0), ["split", "dividend"]]
        pd.testing.assert_frame_equal(acted, listing.actions, check_index_type=False, rtol=1e-6)
        adjusted = trial.street.adjusted(mine)
        np.testing.assert_allclose(adjusted, listing.total_return, rtol=1e-6)


def test_after_forty_evenings_the_store_holds_the_truth_and_every_view_of_it(
    street: Street, xnys: Calendar
) -> None:
    trial, views = Trial(street, xnys), []
    street.server.stocks = dict(trial.stocks)
    street.lists(*trial.market.listings)
    fetch(street.run(trial.sessions[-EVENINGS - 1]))
    for evening in trial.evenings:
        named = trial.open(evening)
        run = street.run(evening)
        fetch(run)
        stored = run.store.read()
        check_evening(trial, run, named, stored)
        views.append((run, run.store.seq(), stored))
        if len(views) % 15 == 0:
            run.store.compact(timedelta(days=365))
    assert trial.graves > 30
    check_the_end(trial, run)
    assert set(trial.met) == {*DATA, *SPLIT}
    for then, seq, seen in views:
        for view in (run.store.read(seq=seq), run.store.read(known_at=then.now)):
            pd.testing.assert_frame_equal(view.drop(columns="symbol"), seen.drop(columns="symbol"))
    answered = [request for request in street.server.requests if request.symbol and not request.fault]
    assert max(Counter((r.symbol, r.clock) for r in answered if r.kind == "bars").values()) == 1
    assert max(Counter(r.symbol for r in answered if r.kind == "timezone").values()) == 1
