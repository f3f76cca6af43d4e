"""What the page says of the things that a network looks at: words and tables, ready for the template."""

from typing import Any, Final

import pandas as pd

from pipeline.evaluation.attributions import select_strongest
from pipeline.evaluation.network_insight import Insight

__all__ = ["collect_insight", "collect_moves", "describe_reach"]

_STRONGEST: Final = 3
_PARTS: Final = ("kernel", "recurrent_kernel", "bias")

_MEANING: Final = {
    "vanishing": "Over the lookback of {lookback} sessions influence falls more than a hundredfold. The "
    "oldest of them hardly move the forecast, and what they could teach reaches the weights as faintly. "
    "For daily returns that is usual, and no fault by itself.",
    "exploding": "Over the lookback of {lookback} sessions influence grows more than tenfold with age. The "
    "oldest of them drown the newest, and training is unstable: a smaller clip_norm, gru or lstm help.",
    "in between": "Over the lookback of {lookback} sessions influence neither vanishes nor explodes: it falls less "
    "than a hundredfold and grows less than tenfold.",
    "blind": "Nothing that the network reads moves its forecast. It has learned the base rate and no more.",
}


def collect_insight(insight: Insight | None) -> dict[str, Any] | None:
    """Return the tables of an insight, and in a sentence its finding at the nearest horizon; None of none."""
    if insight is None:
        return None
    memory = insight.memory.sort_values("horizon", ignore_index=True)
    near = memory.iloc[0]
    gradients = insight.gradients.assign(
        part=insight.gradients["part"].where(insight.gradients["part"].isin(_PARTS), "kernel")
    )
    return {
        "meaning": _MEANING[near["finding"]].format(lookback=near["lookback"]),
        "near": near.to_dict(),
        "memory": memory.to_dict("records"),
        "farthest": int(insight.sensitivity["lag"].max()),
        "parts": [part.replace("_", " ") for part in _PARTS],
        "layers": [_layer(str(name), rows) for name, rows in gradients.groupby("layer", sort=False)],
        "judged": insight.importance.iloc[0].to_dict(),
    }


def collect_moves(attributions: pd.DataFrame, forecasts: pd.DataFrame, most: int) -> dict[str, Any] | None:
    """Return what moved the forecasts that lie farthest from the base rate; None where nothing is kept.

    Args:
        attributions: Columns of attributions.csv.
        forecasts: Of the nearest horizon, as the page orders them.
        most: How many symbols.
    """
    if attributions.empty:
        return None
    near = attributions[attributions["horizon"] == forecasts["horizon"].min()]
    strongest, apart = select_strongest(near, _STRONGEST), near.drop_duplicates("symbol")
    left_out = (apart["logit"] - apart["forecast_logit"]).abs()
    shown = [symbol for symbol in forecasts["symbol"] if symbol in strongest]
    return {
        "rows": [(symbol, strongest[symbol]) for symbol in shown[:most]],
        "symbols": len(shown),
        "has_farther": attributions["horizon"].nunique() > 1,
        "without": len(forecasts) - len(shown),
        "sessions": sorted(apart["sessions"].astype(int).unique().tolist()),
        "left_out": (float(left_out.median()), float(left_out.max())),
        "no_credit": bool((forecasts["p_up"] - forecasts["baseline_p_up"]).abs().max() < _ROUNDING),
    }


_ROUNDING: Final = 1e-9


def describe_reach(lag: int) -> str:
    """Say up to which session a lag reaches."""
    return "the last session alone" if lag == 0 else f"the last {lag + 1:,} sessions"


def _layer(name: str, rows: pd.DataFrame) -> dict[str, Any]:
    norms = rows.groupby("part")["norm"].agg(["mean", "min", "max"])
    cells = [tuple(norms.loc[part]) if part in norms.index else None for part in _PARTS]
    return {"name": name.replace("_", " "), "cells": cells}
