"""Feature attributions of one session's forecasts, in attributions.csv next to forecast.csv."""

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.errors import StoreError
from pipeline.outputs import DIRECTION
from pipeline.storage.csv_output import disarm
from pipeline.storage.files import write_text

__all__ = [
    "FILE",
    "LAGS",
    "load_attributions",
    "save_attributions",
    "select_strongest",
    "tabulate_attributions",
]

FILE: Final = "attributions.csv"

LAGS: Final = ((0, 1), (1, 2), (2, 5), (5, 10), (10, 20), (20, 40), (40, None))
"""Ranges of lags (first, stop) in sessions before the last one; each is summed in one column, the last is open."""

_KEY: Final = ["symbol", "horizon", "as_of", "model_version", "data_version", "target"]
_MADE_OF: Final = ["target_session", *_KEY]


def tabulate_attributions(
    rows: pd.DataFrame, values: NDArray[np.float32], features: tuple[str, ...], facts: pd.DataFrame
) -> pd.DataFrame:
    """Return one row per forecast and feature, the strongest feature of a forecast first.

    Args:
        rows: The forecasts, in the order of `values`: target_session, symbol, horizon, as_of, model_version,
            data_version, target.
        values: Attributions in logits, [row, lag, feature].
        features: Their names.
        facts: logit, baseline_logit, forecast_logit, sessions, in the order of `values`.

    Returns:
        The columns of attributions.csv, rounded as in the file, so that the frame equals what is read back.
    """
    total = values.sum(axis=1, dtype=np.float64)
    order = np.argsort(-np.abs(total), axis=1, kind="stable")
    which = np.repeat(np.arange(len(rows)), len(features))
    feature = order.reshape(-1)
    head = rows[_MADE_OF].iloc[which].reset_index(drop=True)
    named = head.assign(feature=np.array(features)[feature], attribution=total[which, feature])
    for first, stop in LAGS:
        named[_column(first, stop)] = values[:, first:stop].sum(axis=1, dtype=np.float64)[which, feature]
    whole = pd.concat([named, facts.iloc[which].reset_index(drop=True)], axis=1)
    return whole.assign(**whole.select_dtypes("float").round(6))


def save_attributions(folder: Path, made: pd.DataFrame) -> None:
    """Add attributions to those in the folder; a row of a forecast and feature that is stored already is kept.

    Raises:
        NextdayError: the file cannot be written.
    """
    made = made.assign(symbol=made["symbol"].map(disarm))
    whole = made if (before := _read(folder)) is None else pd.concat([before, made], ignore_index=True)
    kept = whole.drop_duplicates([*_KEY, "feature"])
    days = {name: kept[name].dt.strftime("%Y-%m-%d") for name in ("target_session", "as_of")}
    text = kept.assign(**days).to_csv(index=False, float_format="%.6f", lineterminator="\n")
    write_text(folder / FILE, text)


def load_attributions(folder: Path, standing: pd.DataFrame) -> pd.DataFrame:
    """Return the stored attributions of the official forecasts: those of the same model and the same prices.

    Raises:
        StoreError: the file is damaged.
    """
    kept = _read(folder)
    if kept is None:
        return pd.DataFrame(columns=[*_MADE_OF, "feature", "attribution"])
    official = standing[_KEY].assign(plain=standing["symbol"], symbol=standing["symbol"].map(disarm))
    found = kept.merge(official, on=_KEY, how="inner")
    return found.assign(symbol=found.pop("plain"))


def select_strongest(attributions: pd.DataFrame, most: int) -> dict[str, list[tuple[str, float]]]:
    """Return the features with the largest attributions of each symbol, the largest first.

    Args:
        attributions: Of one output.
        most: How many features per symbol.
    """
    return {
        str(symbol): list(zip(rows["feature"][:most], rows["attribution"][:most], strict=True))
        for symbol, rows in attributions.groupby("symbol", sort=False)
    }


def _column(first: int, stop: int | None) -> str:
    if stop is None:
        return f"lag_{first}_up"
    return f"lag_{first}" if stop == first + 1 else f"lag_{first}_{stop - 1}"


def _read(folder: Path) -> pd.DataFrame | None:
    if not (folder / FILE).exists():
        return None
    try:
        kept = pd.read_csv(
            folder / FILE, dtype={"symbol": "str", "model_version": "str"}, keep_default_na=False
        )
        if "target" not in kept:  # written before there were targets
            kept = kept.assign(target=DIRECTION)
        return kept.assign(**{name: pd.to_datetime(kept[name]) for name in ("target_session", "as_of")})
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(
            f"The attributions of the forecasts cannot be read: {error}",
            where=str(folder / FILE),
            fix="remove the file; the page then says that there are no attributions",
        ) from None
