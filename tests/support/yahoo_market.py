"""What Yahoo says of a listing at an instant: how it really traded, and what Yahoo has made of that by then.

A `Stock` is the truth. `Stock.shown` adjusts it as Yahoo does; then each `Quirk` in turn makes one thing wrong
(tests/support/yahoo_quirks.py has them). Sessions are written as days ("2024-06-10"), instants as stamps with a zone.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

PRICES = ["open", "high", "low", "close"]
ADJUSTED = [*PRICES, "adj_close"]

Instant = pd.Timestamp | str
"""A moment; a day without a zone is that day's midnight at the exchange."""


@dataclass(frozen=True)
class Event:
    """A split, dividend or gain as Yahoo lists it; `ratio` is (new, old) shares, `amount` is cash."""

    kind: str
    session: pd.Timestamp
    amount: float = 0.0
    ratio: tuple[int, int] = (1, 1)

    @property
    def step(self) -> float:
        """How many shares one share became."""
        return self.ratio[0] / self.ratio[1]


@dataclass(frozen=True)
class Shown:
    """What Yahoo shows of a stock at the instant `at`, before it is cut to the asked window and written as JSON.

    `bars` is indexed by session, which may come twice or in any order, and has stamp (epoch seconds), open, high,
    low, close, volume, adj_close.
    """

    stock: "Stock"
    at: pd.Timestamp
    bars: pd.DataFrame
    events: tuple[Event, ...]
    currency: str | None

    def with_bars(self, bars: pd.DataFrame) -> "Shown":
        """Return it with other bars."""
        return replace(self, bars=bars)

    def scaled(self, rows: "np.ndarray", factors: dict[str, float]) -> "Shown":
        """Return it with columns of some rows [bar] multiplied; adj_close goes the way of close."""
        if "close" in factors:
            factors = {"adj_close": factors["close"], **factors}
        bars = self.bars.copy()
        for name, factor in factors.items():
            bars.loc[rows, name] *= factor
        return self.with_bars(bars)


@dataclass(frozen=True, kw_only=True)
class Quirk:
    """One thing that Yahoo gets wrong while since <= clock < until."""

    since: Instant | None = None
    until: Instant | None = None

    def is_on(self, stock: "Stock", at: pd.Timestamp) -> bool:
        """Whether it holds at `at`."""
        started = self.since is None or stock.instant(self.since) <= at
        return started and (self.until is None or at < stock.instant(self.until))

    def show(self, shown: Shown) -> Shown:
        """Return what is shown instead."""
        return shown


@dataclass(frozen=True)
class Broken(Quirk):
    """The symbol's answers fail, see yahoo_server.FAULTS: a delisting is Broken("not found", since=day)."""

    fault: str


@dataclass(frozen=True)
class Stock:
    """One listing as it traded, and what Yahoo gets wrong about it.

    `traded` has the columns open, high, low, close, volume (NaN: Yahoo says null) and a tz-naive session index;
    dividends, splits (new, old) and gains are keyed by session in the units of that session. An action is known
    from the open of its session on. `opens` and `closes` are local times, `early` holds earlier closes by session.
    `listed` has events as Yahoo's JSON lists them, by kind, beside the others; `stated` is the symbol that Yahoo
    states where it is not the one asked for.
    `single` rounds prices to single precision, as Yahoo does. `fault` makes all answers fail, at any time.
    """

    traded: pd.DataFrame
    dividends: dict[str, float] = field(default_factory=dict)
    splits: dict[str, tuple[int, int]] = field(default_factory=dict)
    gains: dict[str, float] = field(default_factory=dict)
    kind: str = "EQUITY"
    currency: str | None = "USD"
    timezone: str = "America/New_York"
    opens: str = "09:30"
    closes: str = "16:00"
    early: dict[str, str] = field(default_factory=dict)
    quirks: tuple[Quirk, ...] = ()
    listed: dict[str, Any] = field(default_factory=dict)
    stated: str = ""
    single: bool = False
    fault: str = ""

    def with_quirks(self, *quirks: Quirk) -> "Stock":
        """Return the stock with more that Yahoo gets wrong; later quirks work on what earlier ones show."""
        return replace(self, quirks=(*self.quirks, *quirks))

    def instant(self, when: Instant) -> pd.Timestamp:
        """Return a moment in UTC; a day is its midnight here."""
        stamp = pd.Timestamp(when)
        return (stamp.tz_localize(self.timezone) if stamp.tzinfo is None else stamp).tz_convert("UTC")

    def clock(self, clock: pd.Timestamp) -> pd.Timestamp:
        """Return the moment that a clock shows, in UTC; a day is its last second here."""
        day_end = pd.Timedelta(days=1, seconds=-1) if clock.tzinfo is None else pd.Timedelta(0)
        return self.instant(clock + day_end)

    def opening(self, day: pd.Timestamp | str) -> pd.Timestamp:
        """Return when a day's session opens, in UTC."""
        return self.instant(f"{pd.Timestamp(day):%Y-%m-%d} {self.opens}")

    def after(self, day: pd.Timestamp | str, sessions: int) -> pd.Timestamp:
        """Return the session that many sessions after the first one not before `day`."""
        place = int(self.traded.index.searchsorted(pd.Timestamp(day))) + sessions
        return pd.Timestamp(self.traded.index[place])

    def has_opened(self, day: pd.Timestamp | str, at: pd.Timestamp) -> bool:
        """Whether the session of a day has opened by `at`."""
        return self.opening(day) <= at

    def failing(self, at: pd.Timestamp) -> str:
        """Return the fault of the answers at `at`, empty if they are good."""
        broken = (quirk.fault for quirk in self.quirks if isinstance(quirk, Broken) and quirk.is_on(self, at))
        return self.fault or next(broken, "")

    def shown(self, at: pd.Timestamp) -> Shown:
        """Return what Yahoo shows at the instant `at`."""
        shown = self.honest(at)
        for quirk in self.quirks:
            if quirk.is_on(self, at):
                shown = quirk.show(shown)
        if self.single:
            rounded = shown.bars[ADJUSTED].astype("float32").astype(float)
            shown = shown.with_bars(shown.bars.assign(**rounded))
        return shown

    def honest(self, at: pd.Timestamp) -> Shown:
        """Return what Yahoo would show if it got nothing wrong: adjusted by every action until then."""
        traded = self._until(at)
        factor = np.ones(len(traded))
        for split in self._known(self.splits, "split", at):
            factor[traded.index < split.session] *= split.step
        bars = traded.assign(**traded[PRICES].div(factor, axis=0), volume=(traded["volume"] * factor).round())
        events = [
            replace(event, amount=event.amount / self._later(event.session, at))
            for kind, amounts in (("dividend", self.dividends), ("gain", self.gains))
            for event in self._known(amounts, kind, at)
        ]
        adjusted = bars["close"].to_numpy(copy=True)
        for day in {event.session for event in events}:
            adjusted[bars.index < day] *= self.dividend_factor(day)
        splits = self._known(self.splits, "split", at)
        return Shown(self, at, bars.assign(adj_close=adjusted), (*events, *splits), self.currency)

    def split_step(self, day: pd.Timestamp | str) -> float:
        """Return how many shares one share became on a day."""
        new, old = self.splits.get(f"{pd.Timestamp(day):%Y-%m-%d}", (1, 1))
        return new / old

    def dividend_factor(self, day: pd.Timestamp | str) -> float:
        """Return 1 - D/C of a day's cash, C being the last close before it in that day's units."""
        name = f"{pd.Timestamp(day):%Y-%m-%d}"
        cash = self.dividends.get(name, 0.0) + self.gains.get(name, 0.0)
        before = self.traded["close"][: pd.Timestamp(day) - pd.Timedelta(1, "D")].dropna()
        return 1.0 if before.empty else float(1 - cash * self.split_step(day) / before.iloc[-1])

    def chart(self, clock: pd.Timestamp, start: float, end: float) -> dict[str, Any]:
        """Return the chart JSON of [start, end) in epoch seconds, as Yahoo would have it at `clock`."""
        shown = self.shown(self.clock(clock))
        bars = shown.bars[shown.bars["stamp"].ge(start) & shown.bars["stamp"].lt(end)]
        quote = {name: _values(bars[name]) for name in PRICES}
        quote["volume"] = [None if value is None else round(value) for value in _values(bars["volume"])]
        result: dict[str, Any] = {"meta": shown.stock._meta(shown), "indicators": {"quote": [{}]}}
        if len(bars):
            result["timestamp"] = bars["stamp"].astype(int).tolist()
            result["indicators"] = {"quote": [quote], "adjclose": [{"adjclose": _values(bars["adj_close"])}]}
            result["events"] = self._listed(shown.events, start, end)
        return {"chart": {"result": [result], "error": None}}

    def _meta(self, shown: Shown) -> dict[str, Any]:
        first = self.traded.index[:1]
        stated = {"symbol": self.stated} if self.stated else {}
        return stated | {
            "currency": shown.currency,
            "instrumentType": self.kind,
            "exchangeTimezoneName": self.timezone,
            "firstTradeDate": int(self.opening(first[0]).timestamp()) if len(first) else None,
            "regularMarketTime": self._last_trade(shown.at),
            "validRanges": ["1d", "5d", "max"],
        }

    def _last_trade(self, at: pd.Timestamp) -> int | None:
        closes = self._stamps["closes"][self._stamps["opens"] <= at]
        return int(min(at, closes.iloc[-1]).timestamp()) if len(closes) else None

    def _listed(self, events: tuple[Event, ...], start: float, end: float) -> dict[str, Any]:
        listed: dict[str, dict[str, Any]] = {"dividends": {}, "splits": {}, "capitalGains": {}}
        for event in events:
            stamp = int(self.opening(event.session).timestamp())
            if not start <= stamp < end:
                continue
            if event.kind == "split":
                new, old = event.ratio
                said = {"numerator": new, "denominator": old, "splitRatio": f"{new}:{old}"}
            else:
                said = {"amount": event.amount}
            name = {"split": "splits", "dividend": "dividends", "gain": "capitalGains"}[event.kind]
            listed[name][str(stamp)] = {"date": stamp, **said}
        found = {name: events for name, events in listed.items() if events}
        for name, events in self.listed.items():
            found[name] = found.get(name, {}) | events if isinstance(events, dict) else events
        return found

    @cached_property
    def _stamps(self) -> pd.DataFrame:
        """When each session opens and closes, in UTC."""
        days = pd.DatetimeIndex(self.traded.index)
        closes = (
            [self.early.get(f"{day:%Y-%m-%d}", self.closes) for day in days] if self.early else self.closes
        )
        times = {
            "opens": pd.to_timedelta(f"{self.opens}:00"),
            "closes": pd.to_timedelta(_with_seconds(closes)),
        }
        local = {name: (days + time).tz_localize(self.timezone) for name, time in times.items()}
        return pd.DataFrame({name: stamps.tz_convert("UTC") for name, stamps in local.items()}, index=days)

    def _until(self, at: pd.Timestamp) -> pd.DataFrame:
        """Return the bars as traded until `at`; that of the open session is unfinished, and the day's has its time."""
        times = self._stamps[self._stamps["opens"] <= at]
        traded = self.traded.loc[times.index, [*PRICES, "volume"]].astype(float)
        stamps = ((times["opens"] - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(seconds=1)).to_numpy(copy=True)
        if len(traded) and at.tz_convert(self.timezone).date() == traded.index[-1].date():
            opened, closed = times.iloc[-1]
            traded.iloc[-1] = _unfinished(traded.iloc[-1], min((at - opened) / (closed - opened), 1.0))
            stamps[-1] = int(min(at, closed).timestamp())
        return traded.assign(stamp=stamps)

    def _known(self, actions: dict[str, Any], kind: str, at: pd.Timestamp) -> list[Event]:
        known = [(pd.Timestamp(day), value) for day, value in actions.items() if self.has_opened(day, at)]
        if kind == "split":
            return [Event(kind, day, ratio=ratio) for day, ratio in known]
        return [Event(kind, day, amount) for day, amount in known]

    def _later(self, session: pd.Timestamp, at: pd.Timestamp) -> float:
        later = [split.step for split in self._known(self.splits, "split", at) if session < split.session]
        return float(np.prod(later))


def _unfinished(bar: "pd.Series[float]", share: float) -> "pd.Series[float]":
    """Return the bar when a share of its session is over: each price has moved that far from the open."""
    if share == 1.0:
        return bar
    moved = {name: bar["open"] + share * (bar[name] - bar["open"]) for name in PRICES}
    return pd.Series({**bar, **moved, "volume": np.floor(share * bar["volume"])})[list(bar.index)]


def _with_seconds(times: Any) -> Any:
    return f"{times}:00" if isinstance(times, str) else [f"{time}:00" for time in times]


def _values(column: "pd.Series[float]") -> list[float | None]:
    return [None if pd.isna(value) else float(value) for value in column]
