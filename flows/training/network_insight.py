"""What the trained network looks at: its sensitivity to inputs and its memory, for the report."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from flows.runtime.context import Run
from flows.runtime.progress import log_line
from flows.runtime.tasks import task
from flows.training.history import History
from pipeline.evaluation.network_insight import Insight, rate_importance
from pipeline.forecasting.folds import Fold

__all__ = ["inspect_network"]


_MINUTES = 15
"""Far more than 500 symbols take."""


def inspect_network(run: Run, known: History, fitted: Any, fold: Fold) -> Insight | None:
    """Find out what the network of the scoring fit looks at; None, and why, where that cannot be had.

    Whatever goes wrong here costs no training.

    Args:
        run: The run.
        known: The history that it was fitted with.
        fitted: The network of the walk.
        fold: How that history was cut.
    """
    if not fitted.explainable:
        own = "a model of your own is not looked into" if run.config.model.is_custom else ""
        log_line(
            f"what the network looks at is not measured: {own or 'every symbol has a network of its own'}"
        )
        return None
    try:
        return _look_inside(run, known, fitted, fold)
    except Exception as error:
        log_line(f"what the network looks at is not measured: {error}")
        return None


@task("look inside", timeout=_MINUTES * 60)
def _look_inside(run: Run, known: History, fitted: Any, fold: Fold) -> Insight:
    from models.explain.inspection import inspect

    sequences, part = known.sequences, "test" if len(fold.test) else "calibrate"
    found = inspect(
        fitted,
        *(sequences.x, sequences.mask, sequences.y),
        train=fold.train,
        calibrate=fold.calibrate,
        judge=fold.parts[part],
        seed=run.config.training.seed,
    )
    insight = Insight(
        sensitivity=_lay_out_sensitivity(found.sensitivity, sequences.horizons),
        memory=_lay_out_memory(found.memory, sequences.horizons, fitted.network.lookback),
        gradients=pd.DataFrame(
            {"layer": one.layer, "part": one.part, "member": member, "norm": norm}
            for one in found.gradients
            for member, norm in enumerate(one.norms, start=1)
        ),
        importance=pd.concat(
            [
                rate_importance(
                    found.importance[:, :, place],
                    found.judged,
                    sequences.features,
                    run.config.training.seed,
                    horizon,
                ).assign(horizon=horizon, part=part)
                for place, horizon in enumerate(sequences.horizons)
            ],
            ignore_index=True,
        ),
    )
    near = insight.memory.iloc[0]
    log_line(
        f"95% of the network's influence lies within {near['most'] + 1} sessions; gradients: {near['finding']}"
    )
    return insight


def _lay_out_sensitivity(
    norms: np.ndarray[Any, np.dtype[np.float64]], horizons: Sequence[int]
) -> pd.DataFrame:
    member, lag, horizon = np.indices(norms.shape).reshape(3, -1)
    return pd.DataFrame(
        {"horizon": np.array(horizons)[horizon], "member": member + 1, "lag": lag, "norm": norms.reshape(-1)}
    )


def _lay_out_memory(memory: Sequence[Any], horizons: Sequence[int], lookback: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "horizon": horizon,
            "half": one.half,
            "most": one.most,
            "decay": one.decay,
            "finding": one.diagnosis,
            "lookback": lookback,
        }
        for horizon, one in zip(horizons, memory, strict=True)
    )
