"""What Yahoo gets wrong, one idea a class; each holds while since <= clock < until (see yahoo_market.Quirk).

Ratios and spans are closed forms, so that a test can say what must arrive. Sources: notes of public threads about
yfinance; nothing here was taken from Yahoo.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tests.support.yahoo_market import ADJUSTED, PRICES, Instant, Quirk, Shown, Stock

Rows = NDArray[np.bool_]


@dataclass(frozen=True)
class Unadjusted(Quirk):
    """The prices of [first, last] do not know the split or the dividend of `day`: it is late, or done in part."""

    day: str
    first: str = "1900-01-01"
    last: str = "2200-01-01"

    def show(self, shown: Shown) -> Shown:
        stock, day = shown.stock, pd.Timestamp(self.day)
        if not stock.has_opened(day, shown.at):
            return shown
        step, factor = stock.split_step(day), stock.dividend_factor(day)
        rows = _span(shown, self.first, self.last) & (shown.bars.index < day)
        events = tuple(
            replace(event, amount=event.amount * step)
            if pd.Timestamp(self.first) <= event.session <= min(pd.Timestamp(self.last), day)
            and event.session < day
            else event
            for event in shown.events
        )
        undone = {**dict.fromkeys(PRICES, step), "adj_close": step / factor, "volume": 1 / step}
        return replace(shown.scaled(rows, undone), events=events)


@dataclass(frozen=True)
class Unlisted(Quirk):
    """The events of `day` are not listed: late with `until`, lost with `since`."""

    day: str

    def show(self, shown: Shown) -> Shown:
        day = pd.Timestamp(self.day)
        return replace(shown, events=tuple(event for event in shown.events if event.session != day))


def late(day: str, until: Instant) -> tuple[Quirk, ...]:
    """Return the quirks of a split or dividend that Yahoo knows nothing of before `until`."""
    return Unadjusted(day, until=until), Unlisted(day, until=until)


@dataclass(frozen=True)
class ListedTwice(Quirk):
    """The events of `day` are listed again on the next session."""

    day: str

    def show(self, shown: Shown) -> Shown:
        again = shown.stock.after(self.day, 1)
        if not shown.stock.has_opened(again, shown.at):
            return shown
        twice = [
            replace(event, session=again) for event in shown.events if event.session == pd.Timestamp(self.day)
        ]
        return replace(shown, events=(*shown.events, *twice))


@dataclass(frozen=True)
class Unsettled(Quirk):
    """Columns of a bar are `factors` times what they will be: of `session`, or of the newest until the next opens."""

    factors: dict[str, float]
    session: str = ""

    def show(self, shown: Shown) -> Shown:
        return shown.scaled(_bar(shown, self.session), self.factors)


@dataclass(frozen=True)
class Null(Quirk):
    """The rows of [first, last] hold nothing; without `last` it is one row."""

    first: str
    last: str = ""

    def show(self, shown: Shown) -> Shown:
        bars = shown.bars.copy()
        bars.loc[_span(shown, self.first, self.last), [*ADJUSTED, "volume"]] = np.nan
        return shown.with_bars(bars)


@dataclass(frozen=True)
class Missing(Quirk):
    """The rows of [first, last] are not there; without `last` it is one row."""

    first: str
    last: str = ""

    def show(self, shown: Shown) -> Shown:
        return shown.with_bars(shown.bars[~_span(shown, self.first, self.last)])


@dataclass(frozen=True)
class Carried(Quirk):
    """Days on which nothing traded have a row: the last close before them, volume 0. They must not be in `traded`."""

    days: tuple[str, ...]

    def show(self, shown: Shown) -> Shown:
        for day in self.days:
            shown = _insert(shown, pd.Timestamp(day), flat=True)
        return shown


@dataclass(frozen=True)
class Extra(Quirk):
    """A row on a day that is no session, a Sunday for example: the last row before it once more."""

    day: str

    def show(self, shown: Shown) -> Shown:
        return _insert(shown, pd.Timestamp(self.day), flat=False)


@dataclass(frozen=True)
class Twice(Quirk):
    """The row of `session`, or the newest, comes twice: first as it stood at the open, `factors` times itself.

    While the session is open the second row bears the time of the last trade: the live bar comes beside the day's.
    """

    session: str = ""
    factors: dict[str, float] = field(default_factory=dict)

    def show(self, shown: Shown) -> Shown:
        rows = _bar(shown, self.session)
        if not rows.any():
            return shown
        place = int(np.flatnonzero(rows)[0])
        first = shown.scaled(rows, self.factors).bars.iloc[[place]]
        first = first.assign(stamp=int(shown.stock.opening(first.index[0]).timestamp()))
        return shown.with_bars(pd.concat([shown.bars.iloc[:place], first, shown.bars.iloc[place:]]))


@dataclass(frozen=True)
class Unsorted(Quirk):
    """The rows come in another order."""

    seed: int = 0

    def show(self, shown: Shown) -> Shown:
        order = np.random.default_rng(self.seed).permutation(len(shown.bars))
        return shown.with_bars(shown.bars.iloc[order])


@dataclass(frozen=True)
class Rescaled(Quirk):
    """Prices and cash of [first, last] are `factor` times themselves: pence and pounds mixed up.

    `currency` is what Yahoo then states; None leaves it as it was.
    """

    factor: float
    currency: str | None = None
    first: str = "1900-01-01"
    last: str = "2200-01-01"

    def show(self, shown: Shown) -> Shown:
        first, last = pd.Timestamp(self.first), pd.Timestamp(self.last)
        events = tuple(
            replace(event, amount=event.amount * self.factor) if first <= event.session <= last else event
            for event in shown.events
        )
        scaled = shown.scaled(_span(shown, self.first, self.last), dict.fromkeys(PRICES, self.factor))
        return replace(scaled, events=events, currency=self.currency or shown.currency)


@dataclass(frozen=True)
class Replaced(Quirk):
    """The symbol shows another company's whole history: it has been given to that one."""

    other: Stock

    def show(self, shown: Shown) -> Shown:
        return self.other.shown(shown.at)


def _span(shown: Shown, first: str, last: str = "") -> Rows:
    days = shown.bars.index
    return np.asarray((days >= pd.Timestamp(first)) & (days <= pd.Timestamp(last or first)))


def _bar(shown: Shown, session: str) -> Rows:
    """Return where the bar of `session` is, or the newest."""
    days = shown.bars.index
    return np.asarray(days == (pd.Timestamp(session) if session else days.max()))


def _insert(shown: Shown, day: pd.Timestamp, *, flat: bool) -> Shown:
    before = shown.bars[shown.bars.index < day]
    if before.empty or not shown.stock.has_opened(day, shown.at):
        return shown
    row = before.iloc[[-1]].set_axis([day]).assign(stamp=int(shown.stock.opening(day).timestamp()))
    if flat:
        row = row.assign(**dict.fromkeys(PRICES, row["close"]), volume=0.0)
    return shown.with_bars(pd.concat([before, row, shown.bars[shown.bars.index >= day]]))
