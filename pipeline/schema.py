"""Column names, types and rules of each table, and the functions that validate a frame against them."""

from typing import Final

import pandas as pd
import pandera.pandas as pa

from pipeline.errors import NextdayError
from pipeline.outputs import TARGETS

__all__ = [
    "DIRECTIONS",
    "FORECASTS",
    "FORECAST_KEY",
    "GROUP_SCORES",
    "MIN_SESSIONS",
    "OUTCOMES",
    "PRICES",
    "PRICE_KEY",
    "SCORES",
    "SYMBOL_FIX",
    "SYMBOL_PATTERN",
    "column_types",
    "empty",
    "find_bad_symbol",
    "is_void",
    "validated",
]

SYMBOL_PATTERN: Final = (
    r"^[A-Za-z0-9^](?:[A-Za-z0-9.^=_&*+#\-]{0,31}|[A-Za-z0-9.^=_&*+#\-]{0,26}/[A-Za-z0-9]{1,4})$"
)
"""The only definition of a valid symbol, also in Rust's regular expressions; it allows no leading formula sign, and a
slash only as in BRK/B: it is no path to another folder, and no file is named after a symbol.

Use `fullmatch`: in Python `$` also matches before a trailing line feed.
"""

SYMBOL_FIX: Final = (
    "write letters, digits and . ^ = _ - & * + # (and / as in BRK/B), 32 at most, "
    "the first one a letter, a digit or ^"
)

PRICE_KEY: Final = ["instrument_id", "session", "seq"]
FORECAST_KEY: Final = ["symbol", "as_of", "target_session", "horizon", "target"]

DIRECTIONS: Final = ("up", "down", "none", "above", "below")
"""The values of a direction: above and below the median for relative targets; none where the model abstains."""

_SESSION: Final = "datetime64[us]"
_INSTANT: Final = "datetime64[us, UTC]"


def find_bad_symbol(symbols: "pd.Series[str]") -> int | None:
    """Return the position of the first invalid symbol, None if all are valid."""
    wrong = ~symbols.str.fullmatch(SYMBOL_PATTERN, na=False).to_numpy(dtype=bool)
    return int(wrong.argmax()) if wrong.any() else None


def _symbol() -> pa.Column:
    check = pa.Check(lambda column: column.str.fullmatch(SYMBOL_PATTERN), name="symbol_pattern")
    return pa.Column(str, check)


def _number(nullable: bool = True, **bounds: float) -> pa.Column:
    checks = [getattr(pa.Check, name)(value) for name, value in bounds.items()]
    return pa.Column(
        float, [pa.Check(lambda s: s.abs() < float("inf"), name="finite"), *checks], nullable=nullable
    )


def _text(*allowed: str, nullable: bool = False) -> pa.Column:
    return pa.Column(str, pa.Check.isin(list(allowed)) if allowed else None, nullable=nullable)


PRICES: Final = pa.DataFrameSchema(
    {
        "instrument_id": _text(),
        "symbol": _symbol(),
        "session": pa.Column(_SESSION),
        "open": _number(gt=0),
        "high": _number(gt=0),
        "low": _number(gt=0),
        "close": _number(nullable=False, gt=0),
        "volume": _number(ge=0),
        "dividend": _number(nullable=False, ge=0),
        "split": _number(nullable=False, gt=0),
        "vendor_close": _number(),
        "vendor_adj_close": _number(),
        "adjustment": _text("raw", "split", "split+dividend"),
        "currency": _text(nullable=True),
        "status": _text("provisional", "settled"),
        "source": _text(),
        "observed_at": pa.Column(_INSTANT),
    },
    checks=[
        pa.Check(lambda f: ~(f["low"] > f["high"]), name="low_not_above_high"),
        pa.Check(
            lambda f: ~((f["close"] > f["high"]) | (f["close"] < f["low"])), name="close_within_low_high"
        ),
        pa.Check(lambda f: ~((f["open"] > f["high"]) | (f["open"] < f["low"])), name="open_within_low_high"),
    ],
    unique=["instrument_id", "session"],
    strict=True,
    name="Prices",
)
"""One bar per row, as traded; open, high, low and volume may be missing (NaN). `split` is the ratio that took effect
at this session's open (1.0 = none), `dividend` the cash amount that went ex on it, both in the units of this session.
`session` is tz-naive midnight, `observed_at` is UTC."""

FORECASTS: Final = pa.DataFrameSchema(
    {
        "symbol": _symbol(),
        "as_of": pa.Column(_SESSION),
        "target_session": pa.Column(_SESSION),
        "horizon": pa.Column(int, pa.Check.ge(1)),
        "model_version": _text(),
        "issued_at": pa.Column(_INSTANT),
        "p_up": _number(nullable=False, ge=0, le=1),
        "low": _number(nullable=False, ge=0, le=1),
        "high": _number(nullable=False, ge=0, le=1),
        "direction": _text(*DIRECTIONS),
        "baseline_p_up": _number(nullable=False, ge=0, le=1),
        "last_close": _number(nullable=False, gt=0),
        "data_version": pa.Column(int, pa.Check.ge(0)),
        "config_digest": _text(),
        "role": _text("champion", "challenger"),
        "kind": _text("backtest", "live", "late"),
        "target": _text(*TARGETS),
    },
    checks=pa.Check(lambda f: f["target_session"] > f["as_of"], name="target_after_as_of"),
    unique=[*FORECAST_KEY, "model_version"],
    strict=True,
    name="Forecasts",
)
"""One forecast per row; `p_up` is the probability of up, or for a relative target of above the median. `direction` is
up or above if p_up > 0.5, down or below if p_up < 0.5, none where the model abstains."""

OUTCOMES: Final = pa.DataFrameSchema(
    {
        "symbol": _text(),
        "as_of": pa.Column(_SESSION),
        "target_session": pa.Column(_SESSION),
        "horizon": pa.Column(int, pa.Check.ge(1)),
        "outcome": pa.Column(float, pa.Check.isin([0.0, 1.0]), nullable=True),
        "realized_return": _number(),
        "settled_at": pa.Column(_INSTANT),
        "data_version": pa.Column(int, pa.Check.ge(0)),
        "target": _text(*TARGETS),
        "median_return": _number(),
        "median_members": _number(ge=1),
        "median_basis": _text("90%", "5 sessions", nullable=True),
        "void_reason": _text(nullable=True),
    },
    checks=pa.Check(
        lambda f: f["void_reason"].isna() | (f["outcome"].isna() & f["realized_return"].isna()),
        name="void_has_no_outcome",
    ),
    unique=FORECAST_KEY,
    strict=True,
    name="Outcomes",
)
"""One outcome per forecast: 1 up or above, 0 down or below, NaN where there is no label (unchanged, untraded, no real
open). realized_return is the symbol's simple total return over the target's part of the time. A relative outcome keeps
the median that it was judged by, over how many members, and why it was settled then: the bars of 90% of the members
forecast were settled, or 5 sessions had passed; these three are missing for other targets. void_reason says why a
forecast is void: it has no outcome and counts nowhere; missing for all others."""

MIN_SESSIONS: Final = 10
"""With fewer sessions nothing is drawn and nothing tested (NaN): an interval of them would only look like one.
Outcomes h sessions ahead overlap, and need h times as many."""


def _has_its_interval(scores: pd.DataFrame) -> "pd.Series[bool]":
    """Say of each score whether it has an interval, or a reason to have none: no value, or too few sessions."""
    few = scores["sessions"] < MIN_SESSIONS * scores["horizon"]
    whole = scores["low"].notna() & scores["high"].notna()
    none = scores["low"].isna() & scores["high"].isna()
    return whole | (none & (few | scores["value"].isna()))


SCORES: Final = pa.DataFrameSchema(
    {
        "model": _text(),
        "group": _text(),
        "metric": _text(),
        "value": _number(),
        "low": _number(),
        "high": _number(),
        "n": pa.Column(int, pa.Check.ge(0)),
        "effective_n": _number(gt=0),
        "sessions": pa.Column(int, pa.Check.ge(0)),
        "baseline": _text(),
        "baseline_value": _number(),
        "p_value": _number(ge=0, le=1),
        "horizon": pa.Column(int, pa.Check.ge(1)),
        "t_statistic": _number(),
        "target": _text(*TARGETS),
    },
    checks=[
        pa.Check(_has_its_interval, name="interval_or_a_reason"),
        pa.Check(lambda f: ~(f["low"] > f["high"]), name="low_not_above_high"),
        pa.Check(lambda f: ~(f["effective_n"] > f["n"]), name="effective_n_not_above_n"),
        pa.Check(lambda f: (f["n"] > 0) | f["value"].isna(), name="no_value_of_no_row"),
        pa.Check(lambda f: (f["n"] > 0) == (f["sessions"] > 0), name="rows_have_sessions"),
    ],
    unique=["model", "group", "metric", "horizon", "target"],
    strict=True,
    name="Scores",
)
"""One score a row, never without n, a 95% interval [low, high] and the best baseline's value on the same rows.
`group` is which rows they are ("all", "live", "large moves"), `target` what they forecast, `horizon` how many sessions
ahead they look.
A value is NaN only where the metric is not defined (for example AUC with one class), an interval only there or with
fewer than MIN_SESSIONS sessions for each one ahead. n is 0 where no session has enough rows for the metric.
effective_n is how many independent rows would know as much; NaN in what was scored before it was kept. t_statistic is
that of the mean over sessions of a metric of ranking, against no skill; NaN for other metrics."""


GROUP_SCORES: Final = pa.DataFrameSchema(
    {
        "model": _text(),
        "family": _text(),
        "group": _text(),
        "metric": _text("log_loss", "hit_rate"),
        "value": _number(),
        "low": _number(),
        "high": _number(),
        "n": pa.Column(int, pa.Check.ge(1)),
        "effective_n": _number(nullable=False, gt=0),
        "sessions": pa.Column(int, pa.Check.ge(1)),
        "baseline": _text(),
        "baseline_value": _number(),
        "p_value": _number(ge=0, le=1),
        "adjusted_p": _number(ge=0, le=1),
        "groups": pa.Column(int, pa.Check.ge(0)),
        "horizon": pa.Column(int, pa.Check.ge(1)),
        "target": _text(*TARGETS),
    },
    checks=[
        pa.Check(lambda f: ~(f["low"] > f["high"]), name="low_not_above_high"),
        pa.Check(lambda f: ~(f["effective_n"] > f["n"]), name="effective_n_not_above_n"),
        pa.Check(lambda f: ~(f["adjusted_p"] < f["p_value"]), name="adjusted_p_not_below_p"),
        pa.Check(lambda f: f["adjusted_p"].isna() == f["p_value"].isna(), name="both_p_or_none"),
    ],
    unique=["model", "family", "group", "metric", "horizon", "target"],
    strict=True,
    name="Group scores",
)
"""One score of a part of the rows. `groups` is how many of its family were tested, adjusted_p allows for so many;
p_value is NaN where a group has too few sessions for a finding."""


def is_void(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Say of each row of a record whether its forecast is void; a frame without void_reason has none."""
    return rows["void_reason"].notna() if "void_reason" in rows else pd.Series(False, index=rows.index)


def column_types(schema: pa.DataFrameSchema) -> dict[str, str]:
    """Return the pandas dtype of each column, as the schema declares it."""
    return {name: _DECLARED.get(str(c.dtype), str(c.dtype)) for name, c in schema.columns.items()}


_DECLARED: Final = {str(pa.Column(str).dtype): "str", str(pa.Column(_SESSION).dtype): _SESSION}
"""Pandera resolves these dtypes to others, which do not name the type that frames have here."""


def empty(schema: pa.DataFrameSchema) -> pd.DataFrame:
    """Return a frame with the schema's columns and no rows."""
    return pd.DataFrame({name: pd.Series(dtype=str(column.dtype)) for name, column in schema.columns.items()})


def validated(frame: pd.DataFrame, schema: pa.DataFrameSchema) -> pd.DataFrame:
    """Return `frame` with the schema's columns in order, after checking every rule.

    Raises:
        NextdayError: naming each broken rule with its first example.
    """
    try:
        checked: pd.DataFrame = schema.validate(frame[list(schema.columns)], lazy=True)
        return checked
    except KeyError as missing:
        raise NextdayError(f"{schema.name}: {missing.args[0]}", fix="this is a defect of nextday") from None
    except pa.errors.SchemaErrors as broken:
        cases = broken.failure_cases
        across = cases["schema_context"] == "DataFrameSchema"
        cases = pd.concat(
            [cases[~across].drop_duplicates(["column", "check"]), cases[across].drop_duplicates("check")]
        )
        rules = "; ".join(
            f"{c.column}: {c.check} (for example {c.failure_case!r})" for c in cases.itertuples()
        )
        raise NextdayError(f"{schema.name} rows break their rules: {rules}") from None
