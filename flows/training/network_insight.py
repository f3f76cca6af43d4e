"""Inspect the trained model for the report: sensitivity, memory, gradients and feature importance."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from flows.runtime.context import Run
from flows.runtime.progress import log_line
from flows.runtime.tasks import task
from flows.training.history import History
from models.classifiers.classifier import ClassifierEnsemble
from pipeline.evaluation.network_insight import Insight, rate_importance
from pipeline.features.sequences import Sequences
from pipeline.forecasting.folds import Fold
from pipeline.formatting import count
from pipeline.outputs import Output

__all__ = ["inspect_network"]


def inspect_network(run: Run, known: History, fitted: Any, fold: Fold) -> Insight | None:
    """Return the inspection of the scored network, or what a classifier relies on; None where it cannot be made.

    The reason is logged. An error here is logged and does not stop the training.

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


@task("inspect network")
def _inspect(run: Run, known: History, fitted: Any, fold: Fold) -> Insight:
    sequences, part = known.sequences, "test" if len(fold.test) else "calibrate"
    if isinstance(fitted, ClassifierEnsemble):
        from models.explain.shapley import measure_permutation

        block = sequences.x, sequences.mask, sequences.y
        judged = measure_permutation(fitted, *block, judge=fold.parts[part], seed=run.config.training.seed)
        return Insight(importance=_importance_table(run, sequences, *judged, part))
    from models.explain.inspection import inspect

    inspection = inspect(
        fitted,
        *(sequences.x, sequences.mask, sequences.y),
        train=fold.train,
        calibrate=fold.calibrate,
        judge=fold.parts[part],
        seed=run.config.training.seed,
    )
    insight = Insight(
        sensitivity=_sensitivity_table(inspection.sensitivity, sequences.outputs),
        memory=_memory_table(inspection.memory, sequences.outputs, fitted.network.lookback),
        gradients=pd.DataFrame(
            {"layer": one.layer, "part": one.part, "member": member, "norm": norm}
            for one in inspection.gradients
            for member, norm in enumerate(one.norms, start=1)
        ),
        importance=_importance_table(run, sequences, inspection.importance, inspection.judged, part),
    )
    near = insight.memory.iloc[0]
    log_line(
        f"95% of the network's influence lies within {count(int(near['most']) + 1, 'session')}; see the report"
    )
    return insight


def _importance_table(
    run: Run,
    sequences: Sequences,
    rises: np.ndarray[Any, np.dtype[np.float64]],
    judged: np.ndarray[Any, np.dtype[np.int64]],
    part: str,
) -> pd.DataFrame:
    return pd.concat(
        [
            rate_importance(
                rises[:, :, place], judged, sequences.features, run.config.training.seed, output.horizon
            ).assign(**output._asdict(), part=part)
            for place, output in enumerate(sequences.outputs)
        ],
        ignore_index=True,
    )


def _sensitivity_table(
    norms: np.ndarray[Any, np.dtype[np.float64]], outputs: Sequence[Output]
) -> pd.DataFrame:
    member, lag, output = np.indices(norms.shape).reshape(3, -1)
    targets, horizons = (np.array(names)[output] for names in zip(*outputs, strict=True))
    return pd.DataFrame(
        {"target": targets, "horizon": horizons, "member": member + 1, "lag": lag, "norm": norms.reshape(-1)}
    )


def _memory_table(memory: Sequence[Any], outputs: Sequence[Output], lookback: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            **output._asdict(),
            "half": one.half,
            "most": one.most,
            "decay": one.decay,
            "finding": one.diagnosis,
            "lookback": lookback,
        }
        for output, one in zip(outputs, memory, strict=True)
    )
