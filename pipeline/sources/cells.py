"""Read the cells of users' files: dates and numbers, as programs and as people write them."""

from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.errors import InputError, quoted

__all__ = ["read_numbers", "read_sessions", "require_none"]


def read_sessions(dates: "pd.Series[Any]", file: Path, timezone: str) -> "pd.Series[pd.Timestamp]":
    """Return the session of each date: 2018-12-31, 20181231, 12/31/2018, or a time, which counts as its day.

    An instant, a time with an offset from UTC other than midnight, counts as the day in `timezone`.

    Raises:
        InputError: a cell is no date, the dates can be read in two ways, or there are instants and no `timezone`.
    """
    if pd.api.types.is_datetime64_any_dtype(dates):
        parsed = _local_days(dates, file, timezone)
    else:
        texts = dates.astype(str).str.strip()
        parsed = pd.to_datetime(texts.str.slice(0, 10), format=_date_format(texts, file), errors="coerce")
        is_instant = texts.str.contains(_TIME_WITH_OFFSET)
        instants = pd.to_datetime(texts[is_instant], utc=True, format="ISO8601", errors="coerce")
        if is_instant.any():
            parsed[is_instant] = _local_days(instants, file, timezone)
    if parsed.isna().any():
        row = int(parsed.isna().to_numpy().argmax())
        given = "An empty cell" if pd.isna(dates.iloc[row]) else quoted(dates.iloc[row])
        raise InputError(
            f"{given} is no date",
            where=f"{file}, data row {dates.index[row] + 1}",
            fix="write dates as 2018-12-31",
        )
    days: pd.Series[pd.Timestamp] = parsed.astype("datetime64[us]")
    return days


_TIME_WITH_OFFSET = r"[T ](?!00:00(?::00(?:\.0+)?)?(?:Z|[+-]))\d{2}:\d{2}.*(?:Z|[+-]\d{2}:?\d{2})$"
"""A time of day other than midnight, with its offset from UTC: an instant."""


def _local_days(moments: "pd.Series[Any]", file: Path, timezone: str) -> "pd.Series[pd.Timestamp]":
    """Return the exchange's day of each instant; midnight in its own time zone is a date, whatever the zone."""
    if not isinstance(moments.dtype, pd.DatetimeTZDtype):
        days: pd.Series[pd.Timestamp] = moments.dt.normalize()
        return days
    own = moments.dt.tz_localize(None)
    is_date = own.isna() | (own == own.dt.normalize())
    if not is_date.all() and not timezone:
        raise InputError(
            f"{quoted(moments[~is_date].iloc[0])} is an instant, and the exchange's time zone is not known",
            where=str(file),
            fix="write dates as 2018-12-31",
        )
    local = moments.dt.tz_convert(timezone or "UTC").dt.tz_localize(None)
    days = own.where(is_date, local).dt.normalize()
    return days  # noqa: RET504 -- named for its type


def _date_format(texts: "pd.Series[str]", file: Path) -> str:
    """Return the one format in which all dates can be read: 2018-12-31, 20181231, 12/31/2018 or 31/12/2018."""
    texts = texts.str.slice(0, 10).dropna()
    if texts.head(1).str.fullmatch(r"\d{8}").any() and texts.str.fullmatch(r"\d{8}").all():
        return "%Y%m%d"
    slashed = r"\d{1,2}/\d{1,2}/\d{4}"
    if not (texts.head(1).str.fullmatch(slashed).any() and texts.str.fullmatch(slashed).all()):
        return "%Y-%m-%d"
    formats = [
        form
        for form in ("%m/%d/%Y", "%d/%m/%Y")
        if pd.to_datetime(texts, format=form, errors="coerce").notna().all()
    ]
    if len(formats) == 2:
        raise InputError(
            f"Dates such as {quoted(texts.iloc[0])} can be read in two ways: month first, or day first",
            where=str(file),
            fix="write dates as 2018-12-31",
        )
    return formats[0] if formats else "%m/%d/%Y"


def read_numbers(values: "pd.Series[Any]", file: Path) -> "pd.Series[float]":
    """Return the numbers, NaN for empty cells and a hyphen.

    Raises:
        InputError: a cell is no number.
    """
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        # As text: pandas fails on integers with hundreds of digits.
        values = values.astype(str).where(values.notna()).str.strip()
    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    if (numbers.isna() & values.notna()).any():
        numbers = numbers.fillna(_read_written(values.where(numbers.isna())))
    require_none(numbers.isna() & values.notna() & (values != "-"), values, "number", file)
    return numbers


_WRITTEN = r"^[$€£]?(-?[\d,]+(?:\.\d+)?)([KMB]?)$"
_TIMES = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9}
_GROUPED = r"^-?\d{1,3}(?:,\d{3})+(?:\.\d+)?$"
_SURELY_GROUPED = r"^-?\d{1,3}(?:,\d{3})+\.\d+$|,\d{3},"


def _read_written(texts: "pd.Series[Any]") -> "pd.Series[float]":
    """Return the numbers written for people, as $3,240.00 or a volume of 0.43M; NaN where there is none.

    Commas group thousands only where a value of the column shows it, as 3,240.00 does: 3,240 alone may be a decimal.
    """
    parts = texts.astype("str").str.extract(_WRITTEN)
    digits = parts[0].astype("str")
    is_plain = ~digits.str.contains(",", na=False)
    if digits.str.contains(_SURELY_GROUPED, na=False).any():
        is_plain |= digits.str.contains(_GROUPED, na=False)
    plain = pd.to_numeric(digits.where(is_plain).str.replace(",", ""), errors="coerce").astype(float)
    times = parts[1].map(_TIMES if texts.name == "volume" else {"": 1.0}).astype(float)
    numbers: pd.Series[float] = (plain * times).round(6)  # 0.29 * 1e6 is 290,000 and a billionth
    return numbers


def require_none(broken: "pd.Series[bool]", values: "pd.Series[Any]", what: str, file: Path) -> None:
    """Refuse the first broken cell, which is no `what`.

    Raises:
        InputError: there is one.
    """
    if broken.any():
        row = int(broken.to_numpy().argmax())
        raise InputError(
            f"{quoted(values.iloc[row])} in {values.name} is no {what}",
            where=f"{file}, data row {values.index[row] + 1}",
            fix="fix the cell, or leave it empty: the bar is then dropped with a finding",
        )
