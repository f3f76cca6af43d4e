"""What the fetch of one's own source may return: the rules, and the bars that come out of them."""

from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from numbers import Real
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from pipeline.errors import quoted
from pipeline.market.corporate_actions import Adjustment, find_adjustment
from pipeline.sources import BAR_COLUMNS, Fetched, Outcome, no_bars
from pipeline.sources.columns import COLUMN_NAMES, DEFAULTS, REQUIRED, find_meaning

__all__ = ["AnswerError", "as_fetched", "meanings"]


class AnswerError(ValueError):
    """An answer broke a rule; the text is the rule and what was found instead."""


def as_fetched(
    answer: object,
    symbol: str,
    start: pd.Timestamp,
    end: pd.Timestamp,
    now: datetime,
    *,
    adjustment: Literal["auto"] | Adjustment = "auto",
) -> Fetched:
    """Return what a source of one's own answered as nextday's sources answer.

    Args:
        answer: A table of bars, None where there are none, or a Fetched.
        symbol, start, end, now: What was asked.
        adjustment: What was done to the prices of a plain table.

    Raises:
        AnswerError: it is something else, or breaks a rule of bars.
    """
    if answer is None or (isinstance(answer, pd.DataFrame) and answer.empty):
        return Fetched(symbol, "empty", now, reason="the source has no bar in the asked sessions")
    if isinstance(answer, Fetched):
        fetched = _complete(answer, symbol, now)
    elif isinstance(answer, pd.DataFrame):
        bars = _arrange(answer, symbol)
        kind = _find_adjustment(bars) if adjustment == "auto" else adjustment
        fetched = Fetched(symbol, "ok", now, bars=bars, adjustment=kind)
    else:
        raise AnswerError(f"fetch must return a pandas DataFrame, None or a Fetched, not {_kind(answer)}")
    if fetched.outcome != "ok":
        return fetched
    bars = fetched.bars[fetched.bars["session"] >= start].reset_index(drop=True)
    if not (bars["session"] <= end).any():
        return Fetched(symbol, "empty", now, reason="the source has no bar in the asked sessions")
    return replace(fetched, bars=bars)


def meanings(table: pd.DataFrame) -> dict[object, str | None]:
    """Return which column of bars each column of a table is, None for a column that nextday does not know."""
    return {column: find_meaning(column) for column in table.columns}


def _complete(answer: Fetched, symbol: str, now: datetime) -> Fetched:
    if answer.symbol != symbol:
        raise AnswerError(f"asked for {symbol}, the Fetched is of {quoted(answer.symbol)}")
    for name, allowed in (("outcome", get_args(Outcome)), ("adjustment", get_args(Adjustment))):
        if getattr(answer, name) not in allowed:
            raise AnswerError(
                f"{name} must be one of {', '.join(allowed)}, not {quoted(getattr(answer, name))}"
            )
    for name in ("reason", "currency", "timezone"):
        if not isinstance(getattr(answer, name), str):
            raise AnswerError(f"{name} must be text, not {_kind(getattr(answer, name))}")
    if answer.outcome != "ok":
        reason = " ".join(answer.reason.split()) or "the source gives no reason"
        return replace(answer, bars=no_bars(), observed_at=now, reason=reason)
    if not isinstance(answer.bars, pd.DataFrame) or answer.bars.empty:
        raise AnswerError("the outcome ok needs bars; without any, it is empty")
    return replace(answer, bars=_arrange(answer.bars, symbol), observed_at=now)


def _arrange(table: pd.DataFrame, symbol: str) -> pd.DataFrame:
    """Return BAR_COLUMNS of a table in the words of whoever wrote it."""
    table = _with_dates(table)
    names = meanings(table)
    for meaning in COLUMN_NAMES:
        if len(double := [str(column) for column, name in names.items() if name == meaning]) > 1:
            raise AnswerError(f"the columns {' and '.join(double)} both mean {_said(meaning)}")
    if not table.columns.is_unique:
        raise AnswerError("two columns have the same name")
    bars = table[[c for c, name in names.items() if name]].rename(columns=names).reset_index(drop=True)
    if missing := [_said(name) for name in REQUIRED if name not in bars]:
        there = ", ".join(str(column) for column in table.columns)
        raise AnswerError(f"the bars lack {', '.join(missing)}; they have the columns {quoted(there)}")
    if "symbol" in bars and (others := bars.loc[bars["symbol"].astype(str) != symbol, "symbol"]).size:
        raise AnswerError(f"asked for {symbol}, there are rows of {quoted(others.iloc[0])}")
    sessions = _sessions(bars["session"])
    numbers = {name: _numbers(bars[name]) if name in bars else DEFAULTS[name] for name in BAR_COLUMNS[1:]}
    arranged = pd.DataFrame({"session": sessions, **numbers})
    return arranged.assign(split=_ratios(arranged["split"]))


def _with_dates(table: pd.DataFrame) -> pd.DataFrame:
    has_dates = "session" in meanings(table).values()
    if not has_dates and (
        isinstance(table.index, pd.DatetimeIndex) or find_meaning(table.index.name) == "session"
    ):
        return table.reset_index(names="date")
    return table


def _sessions(dates: "pd.Series[Any]") -> "pd.Series[pd.Timestamp]":
    zone = getattr(dates.dtype, "tz", None) or next(
        (d.tzinfo for d in dates if isinstance(d, datetime) and d.tzinfo), None
    )
    if zone is not None:
        raise AnswerError(
            f"the dates carry the time zone {zone}: give the exchange's own day without one, "
            "for example .dt.tz_convert('America/New_York').dt.tz_localize(None).dt.normalize()"
        )
    if pd.api.types.is_datetime64_any_dtype(dates):
        parsed = dates
    else:
        parsed = pd.to_datetime(dates.astype(object).map(_day), format="%Y-%m-%d", errors="coerce")
    _refuse(parsed.isna(), dates, "is no date; give datetimes, dates, or text such as 2018-12-31")
    _refuse(
        parsed != parsed.dt.normalize(), dates, "has an hour: a session is a day; .dt.normalize() cuts it off"
    )
    _refuse(parsed.diff() < pd.Timedelta(0), dates, "comes after a later date; sort the bars, ascending")
    days: pd.Series[pd.Timestamp] = parsed.astype("datetime64[us]")
    return days


def _day(value: object) -> object:
    if _is_none(value):
        return None
    if isinstance(value, datetime):
        return value.isoformat().removesuffix("T00:00:00")
    return value.isoformat() if isinstance(value, date) else value if isinstance(value, str) else None


def _numbers(values: "pd.Series[Any]") -> "pd.Series[float]":
    kinds = pd.api.types
    if (
        kinds.is_numeric_dtype(values)
        and not kinds.is_bool_dtype(values)
        and not kinds.is_complex_dtype(values)
    ):
        return pd.Series(values.to_numpy(dtype=float, na_value=np.nan))
    cells = values.astype(object)
    _refuse(~cells.map(_is_number).astype(bool), values, "is no number; float() makes one of text")
    return pd.Series([_float(cell) for cell in cells], dtype=float)


def _is_number(value: object) -> bool:
    return _is_none(value) or (isinstance(value, Real | Decimal) and not isinstance(value, bool | np.bool_))


def _is_none(value: object) -> bool:
    return value is None or value is pd.NA or value is pd.NaT


def _float(value: Any) -> float:
    try:
        return float("nan") if _is_none(value) else float(value)
    except OverflowError:
        return float("inf")


def _ratios(splits: "pd.Series[float]") -> "pd.Series[float]":
    """Return the splits, 1.0 where there is none: one wrong ratio would move every price before it."""
    ratios = splits.replace(0.0, 1.0).fillna(1.0)
    _refuse(~ratios.between(0, float("inf"), inclusive="neither"), splits, "is no ratio of a split")
    return ratios


def _refuse(broken: "pd.Series[bool]", values: "pd.Series[Any]", rule: str) -> None:
    if broken.any():
        row = int(broken.to_numpy().argmax())
        raise AnswerError(f"{quoted(values.iloc[row])} in {_said(str(values.name))}, row {row + 1}, {rule}")


def _find_adjustment(bars: pd.DataFrame) -> Adjustment:
    # A broken bar is kept out later; here it must not decide about the others.
    return find_adjustment(bars[bars["close"].gt(0) & np.isfinite(bars["close"])].reset_index(drop=True))


def _said(column: str) -> str:
    return "date" if column == "session" else column


def _kind(value: object) -> str:
    return "a coroutine" if hasattr(value, "__await__") else f"{type(value).__name__} {quoted(value)}"
