"""Inspect the trained network for the report: sensitivity, memory, gradients and feature importance."""

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
from pipeline.formatting import count

__all__ = ["inspect_network"]


_MINUTES = 15
"""Time limit: far more than 500 symbols take."""


def inspect_network(run: Run, known: History, fitted: Any, fold: Fold) -> Insight | None:
    """Return the inspection of the scored network; None, with the reason logged, where it cannot be made.

    An error here is logged and does not stop the training.

    Args:
        run: The run.
        known: The history that it was fitted on.
        fitted: The network of the walk.
        fold: How that history was split.
    """
    if not fitted.explainable:
        is_custom = run.config.model.is_custom
        reason = "it is a custom model" if is_custom else "every symbol has a network of its own"
        log_line(f"the network is not inspected: {reason}")
        return None
    try:
        return _inspect(run, known, fitted, fold)
    except Exception as error:
        log_line(f"the network is not inspected: {error}")
        return None


@task("inspect network", timeout=_MINUTES * 60)
def _inspect(run: Run, known: History, fitted: Any, fold: Fold) -> Insight:
    from models.explain.inspection import inspect

    sequences, part = known.sequences, "test" if len(fold.test) else "calibrate"
    inspection = inspect(
        fitted,
        *(sequences.x, sequences.mask, sequences.y),
        train=fold.train,
        calibrate=fold.calibrate,
        judge=fold.parts[part],
        seed=run.config.training.seed,
    )
    insight = Insight(
        sensitivity=_sensitivity_table(inspection.sensitivity, sequences.horizons),
        memory=_memory_table(inspection.memory, sequences.horizons, fitted.network.lookback),
        gradients=pd.DataFrame(
            {"layer": one.layer, "part": one.part, "member": member, "norm": norm}
            for one in inspection.gradients
            for member, norm in enumerate(one.norms, start=1)
        ),
        importance=pd.concat(
            [
                rate_importance(
                    inspection.importance[:, :, place],
                    inspection.judged,
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
        f"95% of the network's influence lies within {count(int(near['most']) + 1, 'session')}; see the report"
    )
    return insight


def _sensitivity_table(norms: np.ndarray[Any, np.dtype[np.float64]], horizons: Sequence[int]) -> pd.DataFrame:
    member, lag, horizon = np.indices(norms.shape).reshape(3, -1)
    return pd.DataFrame(
        {"horizon": np.array(horizons)[horizon], "member": member + 1, "lag": lag, "norm": norms.reshape(-1)}
    )


def _memory_table(memory: Sequence[Any], horizons: Sequence[int], lookback: int) -> pd.DataFrame:
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
