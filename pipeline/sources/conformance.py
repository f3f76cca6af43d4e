"""Does a source keep the rules? For whoever writes one, to be called from a test."""

from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pandas as pd

from pipeline.errors import NextdayError
from pipeline.sources import Fetched
from pipeline.sources.answers import as_fetched, meanings
from pipeline.sources.custom import CustomSource

__all__ = ["ConformanceError", "check_source"]

_NO_SYMBOL = "NO-SUCH-SYMBOL.0"


class ConformanceError(AssertionError):
    """The source breaks a rule; the text says which, with the symbol and the row."""


def check_source(
    source: object,
    symbol: str,
    *,
    start: date | str,
    end: date | str,
    now: datetime | None = None,
) -> Fetched:
    """Ask a source as nextday would ask it, and raise for the first rule that it breaks.

    It asks four times: for `symbol` from `start` to `end`, the same again, from the middle on, and for a symbol that
    nobody has. Take an `end` that has passed: bars of today still change.

    Args:
        source: The object, as `Name(**source_options)` makes it.
        symbol: One that it has, with bars between `start` and `end`.
        start: The first day to ask for.
        end: The last day to ask for.
        now: The clock that it is told; default: the wall clock.

    Returns:
        The answer to the first question, for tests of your own: its bars, outcome, adjustment.

    Raises:
        ConformanceError: which rule is broken.
    """
    first, last = pd.Timestamp(start), pd.Timestamp(end)
    clock = now or datetime.now(UTC)
    try:
        adopted = CustomSource(source)
        listed = adopted.symbols()
    except NextdayError as error:
        raise ConformanceError(error.what) from None
    _demand(not listed or symbol in listed, f"symbols() does not list {symbol}")
    fetched = _fetched(adopted, symbol, first, last, clock)
    bars = _until(last, fetched)
    _check_rows(symbol, bars)
    raw: object = adopted.ask(symbol, first, last, clock)
    _check_names(symbol, raw)
    _check_same(symbol, bars, _until(last, as_fetched(raw, symbol, first, last, clock)), "asked twice")
    middle = bars["session"].iloc[len(bars) // 2]
    newer = _until(last, _fetched(adopted, symbol, middle, last, clock))
    _check_same(symbol, bars[bars["session"] >= middle], newer, f"asked from {middle:%Y-%m-%d} on")
    _check_unknown(adopted, first, last, clock)
    return fetched


def _demand(is_kept: bool, rule: str) -> None:
    if not is_kept:
        raise ConformanceError(rule)


def _fetched(
    source: CustomSource, symbol: str, start: pd.Timestamp, end: pd.Timestamp, now: datetime
) -> Fetched:
    fetched = source.fetch(symbol, start, end, now)
    asked = f"{symbol} from {start:%Y-%m-%d} to {end:%Y-%m-%d}"
    _demand(fetched.outcome == "ok", f"{asked}: {fetched.outcome}: {fetched.reason}")
    return fetched


def _until(last: pd.Timestamp, fetched: Fetched) -> pd.DataFrame:
    """Return the bars that are over: those of today still change."""
    return fetched.bars[fetched.bars["session"] <= last]


def _check_names(symbol: str, answer: Any) -> None:
    table = answer.bars if isinstance(answer, Fetched) else answer
    unknown = ", ".join(str(column) for column, meaning in meanings(table).items() if meaning is None)
    _demand(
        not unknown, f"{symbol}: nextday would ignore what is named {unknown}: leave it out, or rename it"
    )


def _check_rows(symbol: str, bars: pd.DataFrame) -> None:
    prices = bars[["open", "high", "low", "close"]]
    rules = {
        "the session has a second row": bars["session"].duplicated(),
        "a price is missing, infinite or not above zero": ~(np.isfinite(prices) & (prices > 0)).all(axis=1),
        "low lies above open or close": bars["low"] > bars[["open", "close"]].min(axis=1),
        "high lies below another price": bars["high"] < prices.max(axis=1),
        "volume is negative or infinite": (bars["volume"] < 0) | np.isinf(bars["volume"]),
        "dividend is negative or infinite": (bars["dividend"] < 0) | np.isinf(bars["dividend"]),
    }
    for rule, broken in rules.items():
        if broken.any():
            row = bars[broken].iloc[0]
            raise ConformanceError(f"{symbol} {row['session']:%Y-%m-%d}: {rule}: {_quote(row)}")


def _check_same(symbol: str, bars: pd.DataFrame, again: pd.DataFrame, asked: str) -> None:
    one, other = bars.set_index("session"), again.set_index("session")
    apart = one.index.symmetric_difference(other.index)
    _demand(
        apart.empty,
        f"{symbol}: {asked}, it gives other sessions: {', '.join(f'{day:%Y-%m-%d}' for day in apart[:3])}",
    )
    differ = ~((one == other) | (one.isna() & other.isna())).all(axis=1)
    if differ.any():
        day = one.index[int(differ.to_numpy().argmax())]
        raise ConformanceError(
            f"{symbol} {day:%Y-%m-%d}: {asked}, it gives other values: "
            f"{_quote(one.loc[day])}, then {_quote(other.loc[day])}"
        )


def _check_unknown(source: CustomSource, start: pd.Timestamp, end: pd.Timestamp, now: datetime) -> None:
    answer = source.fetch(_NO_SYMBOL, start, end, now)
    _demand(
        answer.outcome in ("empty", "not_found"),
        f"a symbol that nobody has ({_NO_SYMBOL}) must be empty or not_found, not {answer.outcome}"
        + (f": {answer.reason}" if answer.reason else ""),
    )


def _quote(row: "pd.Series[Any]") -> str:
    names = ("open", "high", "low", "close", "volume", "dividend", "split", "adj_close")
    return ", ".join(f"{name} {row[name]:g}" for name in names if not pd.isna(row[name]))
