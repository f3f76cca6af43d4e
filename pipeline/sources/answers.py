"""The rules for what the `fetch` of a custom source may return, and its conversion to `Fetched`."""

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
from pipeline.sources.cells import FIRST_YEAR, LARGEST_SPLIT
from pipeline.sources.columns import (
    COLUMN_NAMES,
    DEFAULTS,
    REQUIRED,
    add_gains,
    assign_meanings,
    describe_doubt,
    find_doubtful,
    find_meaning,
)

__all__ = ["AnswerError", "as_fetched", "meanings"]


class AnswerError(ValueError):
    """An answer breaks a rule; the message states the rule and what was returned instead."""


def as_fetched(
    answer: object,
    symbol: str,
    start: pd.Timestamp,
    end: pd.Timestamp,
    now: datetime,
    *,
    adjustment: Literal["auto"] | Adjustment = "auto",
) -> Fetched:
    """Return the answer of a custom source as a checked `Fetched`.

    Args:
        answer: A table of bars, None for no bars, or a Fetched.
        symbol, start, end, now: The arguments of the `fetch` call.
        adjustment: How the prices of a plain table are adjusted; `auto` infers it.

    Raises:
        AnswerError: the answer is of another type, or its bars break a rule.
    """
    if answer is None or (isinstance(answer, pd.DataFrame) and answer.empty):
        return Fetched(symbol, "empty", now, reason="the source has no bar in the requested sessions")
    if isinstance(answer, Fetched):
        fetched = _check_fetched(answer, symbol, now)
    elif isinstance(answer, pd.DataFrame):
        bars = _to_bars(answer, symbol)
        kind = _find_adjustment(bars) if adjustment == "auto" else adjustment
        fetched = Fetched(symbol, "ok", now, bars=bars, adjustment=kind)
    else:
        raise AnswerError(
            f"fetch must return a pandas DataFrame, None or a Fetched, not {_describe_type(answer)}"
        )
    if fetched.outcome != "ok":
        return fetched
    bars = fetched.bars[fetched.bars["session"] >= start].reset_index(drop=True)
    if not (bars["session"] <= end).any():
        return Fetched(symbol, "empty", now, reason="the source has no bar in the requested sessions")
    table = answer.bars if isinstance(answer, Fetched) else answer
    findings = (
        [(bars["session"].iloc[-1], "column not read", describe_doubt(doubtful, "the source"))]
        if (doubtful := find_doubtful(meanings(table), table))
        else []
    )
    return replace(fetched, bars=bars, may_lack_range=True, findings=tuple(findings))


def meanings(table: pd.DataFrame) -> dict[object, str | None]:
    """Return the bar column that each column of a table maps to, None for an unknown column."""
    return assign_meanings(table.columns)


def _check_fetched(answer: Fetched, symbol: str, now: datetime) -> Fetched:
    if answer.symbol != symbol:
        raise AnswerError(f"asked for {symbol}, but the Fetched is of {quoted(answer.symbol)}")
    for name, allowed in (("outcome", get_args(Outcome)), ("adjustment", get_args(Adjustment))):
        if getattr(answer, name) not in allowed:
            raise AnswerError(
                f"{name} must be one of {', '.join(allowed)}, not {quoted(getattr(answer, name))}"
            )
    for name in ("reason", "currency", "timezone"):
        if not isinstance(getattr(answer, name), str):
            raise AnswerError(f"{name} must be text, not {_describe_type(getattr(answer, name))}")
    if answer.outcome != "ok":
        reason = " ".join(answer.reason.split()) or "the source gives no reason"
        return replace(answer, bars=no_bars(), observed_at=now, reason=reason)
    if not isinstance(answer.bars, pd.DataFrame) or answer.bars.empty:
        raise AnswerError("the outcome ok needs bars; without any, it is empty")
    return replace(answer, bars=_to_bars(answer.bars, symbol), observed_at=now, findings=())


def _to_bars(table: pd.DataFrame, symbol: str) -> pd.DataFrame:
    """Return BAR_COLUMNS of a table whose columns may have any known alias."""
    table = _with_dates(table)
    names = meanings(table)
    for meaning in COLUMN_NAMES:
        if len(duplicates := [str(column) for column, name in names.items() if name == meaning]) > 1:
            raise AnswerError(f"the columns {' and '.join(duplicates)} both mean {_display_name(meaning)}")
    if not table.columns.is_unique:
        raise AnswerError("two columns have the same name")
    bars = table[[c for c, name in names.items() if name]].rename(columns=names).reset_index(drop=True)
    if missing := [_display_name(name) for name in REQUIRED if name not in bars]:
        present = ", ".join(str(column) for column in table.columns)
        raise AnswerError(f"the bars lack {', '.join(missing)}; they have the columns {quoted(present)}")
    if "symbol" in bars and (others := bars.loc[bars["symbol"].astype(str) != symbol, "symbol"]).size:
        raise AnswerError(f"asked for {symbol}, but there are rows of {quoted(others.iloc[0])}")
    sessions = _sessions(bars["session"])
    numbers = {name: _numbers(bars[name]) if name in bars else DEFAULTS[name] for name in BAR_COLUMNS[1:]}
    if "gain" in bars:
        numbers["dividend"] = add_gains(
            pd.Series(numbers["dividend"], index=bars.index), _numbers(bars["gain"])
        )
    arranged = pd.DataFrame({"session": sessions, **numbers})
    return arranged.assign(split=_split_ratios(arranged["split"]))


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
            f"the dates have the time zone {zone}: return the exchange's local dates without one, "
            "for example .dt.tz_convert('America/New_York').dt.tz_localize(None).dt.normalize()"
        )
    if pd.api.types.is_datetime64_any_dtype(dates):
        parsed = dates
    else:
        parsed = pd.to_datetime(dates.astype(object).map(_iso_date), format="%Y-%m-%d", errors="coerce")
    _require_none(
        parsed.isna() | (parsed.dt.year < FIRST_YEAR),
        dates,
        "is no date; return datetimes, dates, or text such as 2018-12-31",
    )
    _require_none(
        parsed != parsed.dt.normalize(),
        dates,
        "has a time of day, but a session is a date; .dt.normalize() removes it",
    )
    _require_none(
        parsed.diff() < pd.Timedelta(0), dates, "comes after a later date; sort the bars, ascending"
    )
    days: pd.Series[pd.Timestamp] = parsed.astype("datetime64[us]")
    return days


def _iso_date(value: object) -> object:
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
    _require_none(~cells.map(_is_number).astype(bool), values, "is no number; convert text with float()")
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


def _split_ratios(splits: "pd.Series[float]") -> "pd.Series[float]":
    """Return the split ratios, 1.0 where there is none; one wrong ratio would change all earlier prices."""
    ratios = splits.replace(0.0, 1.0).fillna(1.0)
    _require_none(~ratios.between(1 / LARGEST_SPLIT, LARGEST_SPLIT), splits, "is no split ratio")
    return ratios


def _require_none(broken: "pd.Series[bool]", values: "pd.Series[Any]", rule: str) -> None:
    if broken.any():
        row = int(broken.to_numpy().argmax())
        raise AnswerError(
            f"{quoted(values.iloc[row])} in {_display_name(str(values.name))}, row {row + 1}, {rule}"
        )


def _find_adjustment(bars: pd.DataFrame) -> Adjustment:
    # Broken bars are dropped later; here they must not influence the result.
    return find_adjustment(bars[bars["close"].gt(0) & np.isfinite(bars["close"])].reset_index(drop=True))


def _display_name(column: str) -> str:
    return "date" if column == "session" else column


def _describe_type(value: object) -> str:
    return "a coroutine" if hasattr(value, "__await__") else f"{type(value).__name__} {quoted(value)}"
