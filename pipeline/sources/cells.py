"""Read the cells of users' files: dates and numbers, as programs and as people write them."""

import calendar
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import pandas as pd

from pipeline.errors import InputError, quoted

__all__ = [
    "FIRST_YEAR",
    "LARGEST_SPLIT",
    "NO_VALUE",
    "Cells",
    "Decimal",
    "Exchange",
    "find_decimal",
    "read_numbers",
    "read_sessions",
    "read_splits",
]

NO_VALUE = (
    "", "NA", "N/A", "n/a", "n.a.", "#N/A", "#N/A N/A", "<NA>", "NaN", "nan", "NULL", "null", "None", "-nan", "-NaN",
    "-", "--",
)  # fmt: skip
"""What programs write where there is no value."""

Decimal = Literal[".", ","]
"""The mark before the decimals of a file's numbers."""


@dataclass(frozen=True)
class Exchange:
    """What dates are read by.

    Attributes:
        timezone: The exchange's time zone, "" if unknown.
        weekdays: The days of the week on which it trades, Monday is 0.
    """

    timezone: str = ""
    weekdays: frozenset[int] = frozenset(range(5))


@dataclass(frozen=True)
class Cells:
    """The cells of one column as read.

    Attributes:
        values: Sessions or numbers; NaT or NaN where the cell is empty or cannot be read.
        is_bad: bool [row]: whether the cell cannot be read.
        kind: What such a cell is not: a date, a number, a split ratio.
        has_times: Whether the dates had times of day without an offset from UTC, which were left out.
    """

    values: "pd.Series[Any]"
    is_bad: "pd.Series[bool]"
    kind: str
    has_times: bool = False

    @property
    def is_empty(self) -> "pd.Series[bool]":
        """bool [row]: whether the cell has no value."""
        return self.values.isna() & ~self.is_bad


_TIME = (
    r"(?:[T ]+(?P<time>[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?(?: ?[AaPp][Mm])?)"
    r"\s*(?P<zone>Z|UTC|[+-][0-9]{2}:?[0-9]{2})?)?$"
)
_DATES = {
    "%Y-%m-%d": r"[0-9]{4}[-/.][0-9]{1,2}[-/.][0-9]{1,2}",
    "%Y%m%d": r"[0-9]{8}",
    "%Y%m%d%H%M": r"(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])"
    r"(?:[01][0-9]|2[0-3])(?:[0-5][0-9]){1,2}",
    "slashed": r"[0-9]{1,2}(?P<sign>[-/.])[0-9]{1,2}(?P=sign)[0-9]{4}",
    "epoch": r"[0-9]{9,10}|[0-9]{12,13}|[0-9]{15,16}|[0-9]{18}|[12][0-9]{18}",
    "%d %b %Y": r"[0-9]{1,2}[- ][A-Za-z]{3}[- ][0-9]{4}",
    "%b %d %Y": r"[A-Za-z]{3} [0-9]{1,2},? [0-9]{4}",
}
"""The forms of dates; all dates of a file have one of them."""
_SAMPLE = 200
"""Dates, about, in which the form is looked for."""
_UNITS: dict[int, Literal["s", "ms", "us", "ns"]] = {
    9: "s",
    10: "s",
    12: "ms",
    13: "ms",
    15: "us",
    16: "us",
    18: "ns",
    19: "ns",
}
"""The unit of an epoch by its number of digits, from 1973 on."""
_MIDNIGHT = r"(?:00:00(?::00(?:\.0+)?)?|12:00(?::00)? ?[Aa][Mm])"


def read_sessions(dates: "pd.Series[Any]", file: Path, exchange: Exchange) -> Cells:
    """Read the session of each date: 2018-12-31, 20181231, 31.12.2018, 12/31/2018, 31-Dec-2018, an epoch.

    An instant (an epoch, or a time with an offset from UTC, other than midnight) counts as the day at the exchange. A
    time of day without an offset counts as its day, where these days are those on which the exchange trades.

    Raises:
        InputError: the dates can be read in two ways; or there are instants and no time zone; or times of day without
            an offset, on other days of the week than the exchange's.
    """
    if pd.api.types.is_datetime64_any_dtype(dates):
        parsed = _local_days(dates, file, exchange.timezone)
        is_timed = dates.notna() & (parsed != dates) if dates.dt.tz is None else dates.isna() & False
        days = parsed
    else:
        if pd.api.types.is_float_dtype(dates) and (dates.dropna() % 1 == 0).all():
            dates = dates.astype("Int64")
        codes, unique = pd.factorize(dates.astype("str").str.strip())
        days, is_timed = _parse_dates(
            pd.Series(unique, dtype="str", name=dates.name), file, exchange.timezone
        )
        parsed = days.reindex(codes).set_axis(dates.index)
    if has_times := bool(is_timed.any()):
        _require_trading_days(days[is_timed].dropna(), str(dates.name), file, exchange.weekdays)
    parsed = parsed.astype("datetime64[us]")
    return Cells(parsed, parsed.isna() | (parsed.dt.year < FIRST_YEAR), "date", has_times=has_times)


FIRST_YEAR = 1800
"""No exchange has earlier prices: 0001-01-01 stands for a date that is not known. A late one is a future date."""


_MOST_OFF = 0.05
"""The share of days off the exchange's week, such as special sessions on a Saturday, that is no shift."""
_WEEKS = 3


def _require_trading_days(
    days: "pd.Series[pd.Timestamp]", column: str, file: Path, weekdays: frozenset[int]
) -> None:
    """Refuse times of day without an offset whose days are not those of the exchange: it trades in another zone.

    Raises:
        InputError: more than a few fall on days without trade, or none on a day with.
    """
    found = pd.Series(days.unique()).dt.day_of_week
    off = found[~found.isin(weekdays)]
    never = sorted(weekdays - {*found}) if len(found) >= _WEEKS * len(weekdays) else []
    if len(off) <= _MOST_OFF * len(found) and not never:
        return
    named = off.mode().iloc[0] if len(off) else never[0]
    share = f"{(off == named).sum()} of {len(found)} days" if len(off) else f"none of {len(found)} days"
    raise InputError(
        f"The times in {column} have no offset from UTC, and {share} fall on a "
        f"{calendar.day_name[named]}{'' if len(off) else ', when the exchange trades'}: they are of another time zone",
        where=str(file),
        fix="write the offset, as in 2018-12-31 15:00:00+00:00, or plain dates of the exchange, as 2018-12-31",
    )


def _parse_dates(
    texts: "pd.Series[str]", file: Path, timezone: str
) -> tuple["pd.Series[pd.Timestamp]", "pd.Series[bool]"]:
    """Return the day of each text in the form that most of them have; NaT where one has another.

    With it, bool [text]: whether the text has a time of day without an offset, other than midnight.
    """
    plain = pd.to_datetime(texts, format="%Y-%m-%d", errors="coerce").astype("datetime64[us]")
    no_times = pd.Series(False, index=texts.index)
    if plain.notna().all():  # the usual form, and much the fastest
        return plain, no_times
    sample = texts.iloc[:: len(texts) // _SAMPLE + 1]
    form = max(_DATES, key=lambda name: sample.str.fullmatch(f"(?:{_DATES[name]}){_TIME}").sum())
    if form == "%Y%m%d%H%M":
        texts = texts.str.replace(r"^([0-9]{8})([0-9]{2})([0-9]{2})([0-9]{2})?$", _spaced, regex=True)
        form = "%Y%m%d"
    parts = texts.str.extract(f"^(?P<day>{_DATES[form]}){_TIME}")
    day = parts["day"].str.replace(r"[-/., ]+", " " if "%b" in form else "-", regex=True)
    if form == "epoch":
        units = day.str.len().map(_UNITS)
        unit = units.mode().iloc[0]
        epochs = pd.to_numeric(day.where(units == unit)).astype("Int64")
        instants = pd.to_datetime(epochs, unit=unit, utc=True, errors="coerce")
        return _local_days(instants, file, timezone), no_times
    if form == "slashed":
        form = _order_of_day_and_month(day, parts["sign"], file, str(texts.name))
    parsed = pd.to_datetime(day, format=form, errors="coerce").astype("datetime64[us]")
    zone = parts["zone"].replace("UTC", "Z")
    is_timed = parts["time"].notna() & ~parts["time"].str.fullmatch(_MIDNIGHT, na=False)
    is_instant = zone.notna() & is_timed
    if is_instant.any():
        moments = parsed[is_instant].dt.strftime("%Y-%m-%d ") + parts["time"][is_instant] + zone[is_instant]
        instants = pd.to_datetime(moments, utc=True, format="ISO8601", errors="coerce")
        parsed[is_instant] = _in_zone(instants, file, timezone)
    return parsed, is_timed & zone.isna()


def _spaced(digits: "re.Match[str]") -> str:
    """Return 20181231160000 as a day and a time."""
    day, *time = digits.groups(default="00")
    return f"{day} {':'.join(time)}"


def _local_days(moments: "pd.Series[Any]", file: Path, timezone: str) -> "pd.Series[pd.Timestamp]":
    """Return the exchange's day of each instant; midnight in its own time zone is a date, whatever the zone."""
    if not isinstance(moments.dtype, pd.DatetimeTZDtype):
        days: pd.Series[pd.Timestamp] = moments.dt.normalize()
        return days
    own: pd.Series[pd.Timestamp] = moments.dt.tz_localize(None).astype("datetime64[us]")
    is_instant = own.notna() & (own != own.dt.normalize())
    if is_instant.any():
        own[is_instant] = _in_zone(moments[is_instant], file, timezone)
    return own


def _in_zone(instants: "pd.Series[Any]", file: Path, timezone: str) -> "pd.Series[pd.Timestamp]":
    """Return the day of each instant in the exchange's time zone.

    Raises:
        InputError: that zone is not known.
    """
    if not timezone:
        raise InputError(
            f"{quoted(instants.iloc[0])} is an instant, and the exchange's time zone is not known",
            where=str(file),
            fix="write dates as 2018-12-31",
        )
    local = instants.dt.tz_convert(timezone).dt.tz_localize(None).dt.normalize()
    days: pd.Series[pd.Timestamp] = local.astype("datetime64[us]")
    return days


def _order_of_day_and_month(day: "pd.Series[str]", sign: "pd.Series[str]", file: Path, column: str) -> str:
    """Return the format of dates such as 12/31/2018: with dots the day is first, else the numbers must show it."""
    numbers = day.str.split("-", expand=True).apply(pd.to_numeric, errors="coerce")
    first, second = (int((numbers[at] > 12).sum()) for at in (0, 1))
    if sign.mode().iloc[0] == "." or first > second:
        return "%d-%m-%Y"
    if first == second:
        written = day.dropna().iloc[0].replace("-", str(sign.dropna().iloc[0]))
        raise InputError(
            f"Dates such as {quoted(written)} can be read in two ways: month first, or day first",
            where=str(file),
            fix="write dates as 2018-12-31, for example, with dayfirst=False where the month is first: "
            + _rewrite_dates(file, column),
        )
    return "%m-%d-%Y"


def _rewrite_dates(file: Path, column: str) -> str:
    """Return the line to type that writes the dates of a CSV file another way."""
    return (
        f"python -c \"import pandas as pd; t = pd.read_csv('{file.name}', dtype=str); "
        f"t['{column}'] = pd.to_datetime(t['{column}'], dayfirst=True); t.to_csv('{file.name}', index=False)\""
    )


_SIGNS = r"[$€£¥₹]"
_SURE = {
    ".": r"\.[0-9]{1,2}$|\.[0-9]{4,}$|,[0-9]{3}\.[0-9]+$|,[0-9]{2,3},[0-9]{3}$|^-?(?:0|[0-9]{4,})\.[0-9]+$",
    ",": r",[0-9]{1,2}$|,[0-9]{4,}$|\.[0-9]{3},[0-9]+$|\.[0-9]{3}\.[0-9]{3}$|^-?(?:0|[0-9]{4,}),[0-9]+$",
}
"""What shows the decimal mark of a number: 1,101 and 1.101 alone do not."""


def find_decimal(columns: Sequence["pd.Series[Any]"], separator: str, file: Path) -> Decimal:
    """Return the decimal mark of a file: that of most numbers which can be read in one way alone.

    Args:
        columns: Those of numbers, as text.
        separator: Between the file's cells. Beside a comma, or in Parquet, the mark is a point where nothing shows it.
        file: Named in the error.

    Raises:
        InputError: there are numbers with a mark, and none shows which it is.
    """
    texts = [_bare(column.drop_duplicates()) for column in columns if not _is_numeric(column)]
    if not texts:
        return "."
    cells = pd.concat(texts).str.replace("[KMB]$", "", regex=True)
    often = {mark: int(cells.str.contains(pattern, na=False).sum()) for mark, pattern in _SURE.items()}
    if often[","] > often["."]:
        return ","
    doubtful = cells[cells.str.contains(r"[0-9][.,][0-9]", na=False)]
    if often["."] == 0 and separator not in ("", ",") and len(doubtful):
        raise InputError(
            f"Numbers such as {quoted(doubtful.iloc[0])} can be read in two ways: with decimals, or with thousands",
            where=str(file),
            fix="write the numbers without thousands separators and with a decimal point",
        )
    return "."


def read_numbers(values: "pd.Series[Any]", decimal: Decimal = ".") -> Cells:
    """Read numbers; NaN for empty cells and a hyphen.

    Written for people, as $3,240.00, 3.240,00 or 3 240,00, they are read by the file's decimal mark. Other marks group
    thousands only where a number of the column shows it, as 3,240.00 does, and none of it has four digits together:
    3,240 alone may be a decimal. A volume need not show it, and may have K, M or B.
    """
    if _is_numeric(values):
        return Cells(values.astype(float), pd.Series(False, index=values.index), "number")
    # As text: pandas fails on integers with hundreds of digits.
    texts = values.astype("str").where(values.notna()).str.strip()
    texts = texts.mask(texts.isin(NO_VALUE))
    numbers = pd.Series(float("nan"), index=texts.index)
    if decimal == ".":
        numbers = pd.to_numeric(texts, errors="coerce").astype(float)
    rest = texts[texts.notna() & numbers.isna()]
    if len(rest):
        written = _read_written(
            _bare(rest), decimal, is_volume=values.name == "volume", plain=texts.drop(rest.index)
        )
        numbers = numbers.fillna(written)
    return Cells(numbers, numbers.isna() & texts.notna(), "number")


_TIMES = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9}


def _read_written(
    texts: "pd.Series[Any]", decimal: Decimal, *, is_volume: bool, plain: "pd.Series[Any]"
) -> "pd.Series[float]":
    """Return the numbers of texts; NaN where there is none.

    `plain` are the column's other numbers.
    """
    mark, group = (re.escape(decimal), "['’ \u00a0\u202f,]" if decimal == "." else "['’ \u00a0\u202f.]")
    parts = texts.str.extract(rf"^(-?[0-9][0-9{group[1:-1]}]*(?:{mark}[0-9]+)?)([KMB]?)$")
    digits = parts[0].astype("str")
    is_grouped = digits.str.fullmatch(
        rf"-?[0-9]{{1,3}}(?:{group}[0-9]{{2,3}})*{group}[0-9]{{3}}(?:{mark}[0-9]+)?", na=False
    )
    is_plain = digits.str.fullmatch(rf"-?[0-9]+(?:{mark}[0-9]+)?", na=False)
    is_sure = digits.str.contains(
        rf"{group}[0-9]{{3}}{mark}[0-9]+$|{group}[0-9]{{2,3}}{group}[0-9]{{3}}", na=False
    )
    is_long = pd.concat([plain, digits[is_plain]]).astype("str").str.contains(r"^-?[0-9]{4}", na=False)
    if is_long.any() or not (is_volume or (is_grouped & is_sure).any()):
        is_grouped[:] = False
    digits = digits.where(is_plain | is_grouped).str.replace(group, "", regex=True).str.replace(decimal, ".")
    times = parts[1].map(_TIMES if is_volume else {"": 1.0}).astype(float)
    numbers: pd.Series[float] = pd.to_numeric(digits, errors="coerce").astype(float)
    return numbers.where(times == 1.0, (numbers * times).round(6))  # 0.29 * 1e6 is no integer


LARGEST_SPLIT: Final = 1e6
"""Beyond it, or its inverse, a ratio is a mistake: a few of that size leave nothing of the prices before them."""


def read_splits(values: "pd.Series[Any]", decimal: Decimal = ".") -> Cells:
    """Read split ratios, also 4:1 and 4/1; 1.0 where there is none. One wrong ratio would change all earlier prices."""
    pairs = (
        values.astype("str")
        .str.extract(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*[:/]\s*([0-9]+(?:\.[0-9]+)?)\s*$")
        .astype(float)
    )
    is_pair = pairs[0].notna()
    numbers = read_numbers(values.mask(is_pair) if is_pair.any() else values, decimal)
    ratios = numbers.values.fillna(pairs[0] / pairs[1]).replace(0.0, 1.0)
    is_ratio = ratios.between(1 / LARGEST_SPLIT, LARGEST_SPLIT) | (ratios.isna() & ~numbers.is_bad)
    return Cells(
        ratios.fillna(1.0), numbers.is_bad | ~is_ratio, "number" if numbers.is_bad.any() else "split ratio"
    )


def _bare(texts: "pd.Series[Any]") -> "pd.Series[str]":
    """Return the texts without currency signs and blanks around them."""
    texts = texts.astype("str").str.strip()
    return texts.str.replace(rf"^{_SIGNS}\s*|\s*{_SIGNS}$", "", regex=True)


def _is_numeric(values: "pd.Series[Any]") -> bool:
    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
