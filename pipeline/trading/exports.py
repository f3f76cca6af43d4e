"""One session's sealed forecasts against the median as other programs read them: positions, Numerai's signals."""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import pandas as pd

from pipeline.config import TradingConfig
from pipeline.errors import InputError
from pipeline.outputs import NEXT
from pipeline.trading.positions import weigh_ends

__all__ = ["FORMS", "select_evening", "tabulate"]

_EDGE: Final = 1e-6


def select_evening(record: pd.DataFrame, target: str, as_of: pd.Timestamp | None) -> pd.DataFrame:
    """Return the sealed rows of one session and target, next session only.

    Args:
        record: schema.FORECASTS of the champion, as `Ledger.record` returns them.
        target: A relative target.
        as_of: The session that the forecasts are made from; None: the newest one.

    Raises:
        InputError: there is no such row.
    """
    rows = record[(record["target"] == target) & (record["horizon"] == NEXT)]
    if as_of is None and len(rows):
        as_of = rows["as_of"].max()
    found = rows[rows["as_of"] == as_of]
    if found.empty:
        day = f" from {as_of:%Y-%m-%d}" if as_of is not None else ""
        raise InputError(
            f"The ledger has no {target} forecast{day}",
            where="--target, --session",
            fix=f"write [labels] targets with {target!r} in it and run `nextday retrain`; `nextday ledger show` lists "
            "the sessions",
        )
    return found.sort_values("symbol", ignore_index=True)


def _list_positions(rows: pd.DataFrame, settings: TradingConfig) -> pd.DataFrame:
    """Return symbol, side, weight, target_session of the stocks that are held, the largest weight first.

    Weights are shares of the capital, negative where short, as in the trading view (`long_short` stocks on each side);
    which opens are stale is not known to the ledger.
    """
    weights = weigh_ends(rows["p_up"].to_numpy(float), settings.long_short)
    every = pd.DataFrame(
        {
            "symbol": rows["symbol"],
            "side": np.where(weights > 0, "long", "short"),
            "weight": weights,
            "target_session": rows["target_session"].dt.strftime("%Y-%m-%d"),
        }
    )
    held = every[every["weight"] != 0]
    return held.sort_values(["weight", "symbol"], ascending=[False, True], ignore_index=True)


def _list_signals(rows: pd.DataFrame, settings: TradingConfig) -> pd.DataFrame:
    """Return ticker, signal: the probability of above the median, inside (0, 1), as Numerai Signals reads them."""
    signal = rows["p_up"].clip(_EDGE, 1 - _EDGE)
    return pd.DataFrame({"ticker": rows["symbol"], "signal": signal})


FORMS: Final[Mapping[str, Callable[[pd.DataFrame, TradingConfig], pd.DataFrame]]] = {
    "positions": _list_positions,
    "numerai": _list_signals,
}
"""The forms by name."""


def tabulate(rows: pd.DataFrame, form: str, settings: TradingConfig) -> pd.DataFrame:
    """Return the rows of `select_evening` in a form of FORMS."""
    return FORMS[form](rows, settings)
