"""Tables and sentences on the diagnostics of a network and the attributions of its forecasts, for the page."""

from typing import Any, Final

import pandas as pd

from pipeline.evaluation.attributions import select_strongest
from pipeline.evaluation.network_insight import Insight
from pipeline.outputs import list_outputs, select_output

__all__ = ["collect_insight", "collect_moves", "describe_reach"]

_STRONGEST: Final = 3
_PARTS: Final = ("kernel", "recurrent_kernel", "bias")
_ROUNDING: Final = 1e-9

_MEANING: Final = {
    "vanishing": "Over the lookback of {lookback} sessions influence falls more than a hundredfold with age. The "
    "oldest sessions hardly move the forecast, and their gradients hardly reach the weights. "
    "For daily returns that is usual and not a fault in itself.",
    "exploding": "Over the lookback of {lookback} sessions influence grows more than tenfold with age. The "
    "oldest sessions dominate the newest, and training is unstable: a smaller clip_norm, gru or lstm helps.",
    "in between": "Over the lookback of {lookback} sessions influence neither vanishes nor explodes: it falls less "
    "than a hundredfold and grows less than tenfold.",
    "blind": "Nothing that the network reads moves its forecast. It has learned only the base rate.",
}


def collect_insight(insight: Insight | None) -> dict[str, Any] | None:
    """Return the tables of the diagnostics and what the first output's result means; None without diagnostics."""
    if insight is None:
        return None
    judged = {"judged": insight.importance.iloc[0].to_dict()}
    if insight.memory.empty:  # a classifier
        return {"near": None, **judged}
    memory = insight.memory
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
        "layers": [
            _summarize_layer(str(name), rows) for name, rows in gradients.groupby("layer", sort=False)
        ],
        **judged,
    }


def collect_moves(attributions: pd.DataFrame, forecasts: pd.DataFrame, most: int) -> dict[str, Any] | None:
    """Return the attributions of the forecasts farthest from the base rate; None where none were kept.

    Args:
        attributions: Columns of attributions.csv.
        forecasts: Forecasts of the first output, in the order of the page.
        most: The largest number of symbols to list.
    """
    if attributions.empty:
        return None
    near = select_output(attributions, list_outputs(forecasts)[0])
    strongest, apart = select_strongest(near, _STRONGEST), near.drop_duplicates("symbol")
    left_out = (apart["logit"] - apart["forecast_logit"]).abs()
    shown = [symbol for symbol in forecasts["symbol"] if symbol in strongest]
    return {
        "rows": [(symbol, strongest[symbol]) for symbol in shown[:most]],
        "symbols": len(shown),
        "has_farther": len(list_outputs(attributions)) > 1,
        "without": len(forecasts) - len(shown),
        "sessions": sorted(apart["sessions"].astype(int).unique().tolist()),
        "left_out": (float(left_out.median()), float(left_out.max())),
        "is_base_rate": bool((forecasts["p_up"] - forecasts["baseline_p_up"]).abs().max() < _ROUNDING),
    }


def describe_reach(lag: int) -> str:
    """Return in words the sessions from the last one back to a lag."""
    return "the last session alone" if lag == 0 else f"the last {lag + 1:,} sessions"


def _summarize_layer(name: str, rows: pd.DataFrame) -> dict[str, Any]:
    norms = rows.groupby("part")["norm"].agg(["mean", "min", "max"])
    cells = [tuple(norms.loc[part]) if part in norms.index else None for part in _PARTS]
    return {"name": name.replace("_", " "), "cells": cells}
