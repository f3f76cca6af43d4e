"""A simulated market on real sessions: random-walk listings, their corporate actions, and the true prices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from pipeline.market.calendar import Calendar
from tests.support.yahoo_market import Broken, Stock

_RATIOS = [(2, 1), (1, 4), (3, 2), (10, 1)]


@dataclass(frozen=True, eq=False)
class Listing:
    """One listing; `instrument_id` is its first symbol, `renamed` its second and the day from which on it has it."""

    instrument_id: str
    stock: Stock
    renamed: tuple[str, str] | None = None

    @property
    def stocks(self) -> dict[str, Stock]:
        """The stock shown under each of its symbols; from the renaming on the old symbol is unknown."""
        if self.renamed is None:
            return {self.instrument_id: self.stock}
        symbol, day = self.renamed
        return {
            self.instrument_id: self.stock.with_quirks(Broken("not found", since=day)),
            symbol: self.stock.with_quirks(Broken("not found", until=day)),
        }

    @property
    def actions(self) -> pd.DataFrame:
        """Split and dividend as traded, by session: where one took effect."""
        days = sorted({*self.stock.splits, *self.stock.dividends})
        split = [self.stock.split_step(day) for day in days]
        cash = [self.stock.dividends.get(day, 0.0) for day in days]
        index = pd.DatetimeIndex(days, name="session")
        return pd.DataFrame({"split": split, "dividend": cash}, index=index, dtype=float)

    @property
    def total_return(self) -> "pd.Series[float]":
        """The value of one share bought at the first close, by session, with dividends reinvested.

        It buys them at the close before, less itself: that price is what makes Yahoo's factor 1 - D/C.
        """
        close = self.stock.traded["close"]
        assert self.actions.index.isin(close.index[1:]).all(), "an action on a session without a bar before"
        split = self.actions["split"].reindex(close.index, fill_value=1.0)
        cash = self.actions["dividend"].reindex(close.index, fill_value=0.0)
        bought = cash / (close.shift() / split - cash)
        return close * (split * (1 + bought.fillna(0.0))).cumprod()


@dataclass(frozen=True, eq=False)
class MadeMarket:
    """All listings, by instrument_id."""

    listings: dict[str, Listing]

    @cached_property
    def stocks(self) -> dict[str, Stock]:
        """The stocks shown, by symbol: `server.stocks = dict(market.stocks)`."""
        return {symbol: stock for each in self.listings.values() for symbol, stock in each.stocks.items()}

    @cached_property
    def traded(self) -> pd.DataFrame:
        """The truth: instrument_id, session, open, high, low, close, volume, as traded."""
        return self._joined({name: each.stock.traded for name, each in self.listings.items()})

    @cached_property
    def actions(self) -> pd.DataFrame:
        """The truth: instrument_id, session, split, dividend, as traded, where there is one."""
        return self._joined({name: each.actions for name, each in self.listings.items()})

    @cached_property
    def total_return(self) -> pd.DataFrame:
        """The truth: the forward total-return close [session, instrument_id], NaN where nothing traded."""
        return pd.DataFrame({name: each.total_return for name, each in self.listings.items()}).sort_index()

    def _joined(self, frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
        return pd.concat(frames, names=["instrument_id", "session"]).reset_index()


def make_stock(
    days: Calendar,
    sessions: pd.DatetimeIndex,
    seed: int,
    *,
    splits: Mapping[str, tuple[int, int]] = {},
    payouts: Mapping[str, float] = {},
    kind: str = "EQUITY",
) -> Stock:
    """Return a stock that walks at random over `sessions` and trades in whole cents.

    An equal seed and first session give equal prices, whatever the last session is.

    Args:
        days: The exchange's calendar, for its hours.
        sessions: When it trades.
        seed: Of its walk.
        splits: (new, old) shares by session.
        payouts: Dividends by session, each a share of the close before, paid in whole tenths of a cent.
        kind: Yahoo's instrumentType.
    """
    steps, gaps, reach, drop, busy = (np.random.default_rng([seed, stream]) for stream in range(5))
    count, level = len(sessions), 60.0 + 10 * (seed % 17)
    step, gap = steps.normal(0.0003, 0.012, count), gaps.normal(0, 0.004, count)
    close, base, cash = np.empty(count), np.empty(count), {}
    for place, session in enumerate(sessions):
        name = f"{session:%Y-%m-%d}"
        new, old = splits.get(name, (1, 1))
        level = level * old / new
        if place and name in payouts:
            cash[name] = round(level * payouts[name], 3)
            level -= cash[name]
        base[place] = level
        level = close[place] = round(max(level * np.exp(step[place]), 0.01), 2)
    opened = np.maximum((base * np.exp(gap)).round(2), 0.01)
    high = (np.maximum(opened, close) * (1 + np.abs(reach.normal(0, 0.005, count)))).round(2)
    low = (np.minimum(opened, close) * (1 - np.abs(drop.normal(0, 0.005, count)))).round(2)
    volume = busy.integers(100_000, 5_000_000, count)
    traded = pd.DataFrame(
        {"open": opened, "high": high, "low": low, "close": close, "volume": volume}, sessions
    )
    known = {day: ratio for day, ratio in splits.items() if pd.Timestamp(day) in sessions}
    return in_hours(Stock(traded, cash, known, kind=kind, single=True), days)


def make_market(
    days: Calendar,
    first: str,
    last: str,
    *,
    listings: int = 12,
    busy: int = 60,
    splits: int = 2,
    dividends: int = 11,
    renames: int = 1,
    delistings: int = 1,
    seed: int = 20,
) -> MadeMarket:
    """Return listings S00, S01, ... over [first, last]; everything happens in the last `busy` sessions.

    Nothing happens in the last tenth of that time, so that what comes late still comes; renamings (S05 becomes S05X)
    and delistings fall into its middle. The listings that split, are renamed
    and are delisted are different ones; any of them pays dividends.
    """
    sessions = days.sessions_between(pd.Timestamp(first), pd.Timestamp(last))
    rng = np.random.default_rng(seed)
    names = [f"S{number:02d}" for number in range(listings)]
    chosen = [names[place] for place in rng.permutation(listings)[: splits + renames + delistings]]
    splitting, renamed, delisted = np.split(np.array(chosen), [splits, splits + renames])
    late, middle = sessions[-busy + 1 : -busy // 10], sessions[-busy * 3 // 4 : -busy // 4]
    split = {name: {_day(rng, late): _RATIOS[n % 4]} for n, name in enumerate(splitting)}
    end = {name: _day(rng, middle) for name in delisted}
    alias = {name: (f"{name}X", _day(rng, middle)) for name in renamed}
    pairs = [(name, day) for name in names for day in _text(late) if day < end.get(name, "9999")]
    payouts: dict[str, dict[str, float]] = {name: {} for name in names}
    for place in rng.choice(len(pairs), dividends, replace=False):
        name, day = pairs[place]
        payouts[name][day] = float(rng.uniform(0.002, 0.03))
    made = {}
    for number, name in enumerate(names):
        lived = sessions[sessions < pd.Timestamp(end.get(name, "2200-01-01"))]
        stock = make_stock(
            days, lived, seed + 101 * number, splits=split.get(name, {}), payouts=payouts[name]
        )
        if name in end:
            stock = stock.with_quirks(Broken("not found", since=end[name]))
        made[name] = Listing(name, stock, alias.get(name))
    return MadeMarket(made)


def in_hours(stock: Stock, days: Calendar) -> Stock:
    """Return the stock with its exchange's hours, early closes among them."""
    sessions = stock.traded.index
    opens = days.opens[sessions].dt.tz_convert(days.timezone).dt.strftime("%H:%M")
    closes = days.closes[sessions].dt.tz_convert(days.timezone).dt.strftime("%H:%M")
    usual = closes.mode()[0]
    early = {f"{session:%Y-%m-%d}": close for session, close in closes[closes != usual].items()}
    return replace(stock, timezone=days.timezone, opens=opens.mode()[0], closes=usual, early=early)


def _day(rng: np.random.Generator, sessions: pd.DatetimeIndex) -> str:
    return f"{sessions[int(rng.integers(len(sessions)))]:%Y-%m-%d}"


def _text(sessions: Sequence[pd.Timestamp] | pd.DatetimeIndex) -> list[str]:
    return [f"{session:%Y-%m-%d}" for session in sessions]
