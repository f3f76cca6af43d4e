"""Conformance check of a price source, to be called from its author's tests."""

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
    """The source breaks a rule; the message states the rule, the symbol and the row."""


def check_source(
    source: object,
    symbol: str,
    *,
    start: date | str,
    end: date | str,
    now: datetime | None = None,
) -> Fetched:
    """Call a source as nextday would, and raise for the first rule that it breaks.

    `fetch` is called four times: for `symbol` from `start` to `end`, the same again, from the middle on, and for a
    symbol that does not exist. Choose an `end` in the past: today's bars still change.

    Args:
        source: The object that `Name(**source_options)` creates.
        symbol: A symbol of the source with bars between `start` and `end`.
        start: The first day to fetch.
        end: The last day to fetch.
        now: The clock passed to `fetch`; default: the wall clock.

    Returns:
        The answer to the first call, for further tests: its bars, outcome, adjustment.

    Raises:
        ConformanceError: the source breaks a rule.
    """
    first, last = pd.Timestamp(start), pd.Timestamp(end)
    clock = now or datetime.now(UTC)
    try:
        wrapped = CustomSource(source)
        listed = wrapped.symbols()
    except NextdayError as error:
        raise ConformanceError(error.what) from None
    _require(not listed or symbol in listed, f"symbols() does not list {symbol}")
    fetched = _fetch_ok(wrapped, symbol, first, last, clock)
    bars = _until(last, fetched)
    _check_rows(symbol, bars)
    raw: object = wrapped.fetch_raw(symbol, first, last, clock)
    _check_names(symbol, raw)
    _check_same(symbol, bars, _until(last, as_fetched(raw, symbol, first, last, clock)), "asked twice")
    middle = bars["session"].iloc[len(bars) // 2]
    newer = _until(last, _fetch_ok(wrapped, symbol, middle, last, clock))
    _check_same(symbol, bars[bars["session"] >= middle], newer, f"asked from {middle:%Y-%m-%d} on")
    _check_unknown(wrapped, first, last, clock)
    return fetched


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConformanceError(message)


def _fetch_ok(
    source: CustomSource, symbol: str, start: pd.Timestamp, end: pd.Timestamp, now: datetime
) -> Fetched:
    fetched = source.fetch(symbol, start, end, now)
    request = f"{symbol} from {start:%Y-%m-%d} to {end:%Y-%m-%d}"
    _require(fetched.outcome == "ok", f"{request}: {fetched.outcome}: {fetched.reason}")
    return fetched


def _until(last: pd.Timestamp, fetched: Fetched) -> pd.DataFrame:
    """Return the bars up to `last`; later ones may still change."""
    return fetched.bars[fetched.bars["session"] <= last]


def _check_names(symbol: str, answer: Any) -> None:
    table = answer.bars if isinstance(answer, Fetched) else answer
    unknown = ", ".join(str(column) for column, meaning in meanings(table).items() if meaning is None)
    _require(not unknown, f"{symbol}: nextday would ignore the columns {unknown}: remove or rename them")


def _check_rows(symbol: str, bars: pd.DataFrame) -> None:
    prices = bars[["open", "high", "low", "close"]]
    is_good = prices.isna() | (np.isfinite(prices) & (prices > 0))
    rules = {
        "the session has two rows": bars["session"].duplicated(),
        "a price is missing, infinite or not above zero": bars["close"].isna() | ~is_good.all(axis=1),
        "low is above open or close": bars["low"] > bars[["open", "close"]].min(axis=1),
        "high is below another price": bars["high"] < prices.max(axis=1),
        "volume is negative or infinite": (bars["volume"] < 0) | np.isinf(bars["volume"]),
        "dividend is negative or infinite": (bars["dividend"] < 0) | np.isinf(bars["dividend"]),
    }
    for rule, broken in rules.items():
        if broken.any():
            row = bars[broken].iloc[0]
            raise ConformanceError(f"{symbol} {row['session']:%Y-%m-%d}: {rule}: {_format_bar(row)}")


def _check_same(symbol: str, bars: pd.DataFrame, again: pd.DataFrame, request: str) -> None:
    first, second = bars.set_index("session"), again.set_index("session")
    in_one_only = first.index.symmetric_difference(second.index)
    days = ", ".join(f"{day:%Y-%m-%d}" for day in in_one_only[:3])
    _require(in_one_only.empty, f"{symbol}: {request}, it returns other sessions: {days}")
    differ = ~((first == second) | (first.isna() & second.isna())).all(axis=1)
    if differ.any():
        day = first.index[int(differ.to_numpy().argmax())]
        raise ConformanceError(
            f"{symbol} {day:%Y-%m-%d}: {request}, it returns other values: "
            f"{_format_bar(first.loc[day])}, then {_format_bar(second.loc[day])}"
        )


def _check_unknown(source: CustomSource, start: pd.Timestamp, end: pd.Timestamp, now: datetime) -> None:
    answer = source.fetch(_NO_SYMBOL, start, end, now)
    _require(
        answer.outcome in ("empty", "not_found"),
        f"the outcome of a symbol that does not exist ({_NO_SYMBOL}) must be empty or not_found, not {answer.outcome}"
        + (f": {answer.reason}" if answer.reason else ""),
    )


def _format_bar(row: "pd.Series[Any]") -> str:
    names = ("open", "high", "low", "close", "volume", "dividend", "split", "adj_close")
    return ", ".join(f"{name} {row[name]:g}" for name in names if not pd.isna(row[name]))
