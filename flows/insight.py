"""Look into the networks: once a training at what they read, every evening at what moved the forecasts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from flows.chapters import chapter
from flows.progress import say
from flows.run import Run
from flows.training import History
from pipeline.evaluation.attributions import lay_out, save_attributions
from pipeline.evaluation.network_insight import Insight, rate_importance
from pipeline.forecasting.folds import Fold
from pipeline.report.files import place

__all__ = ["explain_forecasts", "look_inside"]

_MINUTES = 15
"""Far more than 500 symbols take."""


def look_inside(run: Run, known: History, fitted: Any, fold: Fold) -> Insight | None:
    """Find out what the network of the scoring fit looks at; None, and why, where that cannot be had.

    Whatever goes wrong here costs no training.

    Args:
        run: The run.
        known: The history that it was fitted with.
        fitted: The network of the walk.
        fold: How that history was cut.
    """
    if not hasattr(fitted, "members"):
        own = "a model of your own is not looked into" if run.config.model.is_own else ""
        say(f"what the network looks at is not measured: {own or 'every symbol has a network of its own'}")
        return None
    try:
        return _look_inside(run, known, fitted, fold)
    except Exception as error:
        say(f"what the network looks at is not measured: {error}")
        return None


@chapter("look inside", timeout=_MINUTES * 60)
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
    say(
        f"95% of the network's influence lies within {near['most'] + 1} sessions; gradients: {near['finding']}"
    )
    return insight


def explain_forecasts(run: Run, fitted: Any, known: History, rows: pd.DataFrame) -> None:
    """Keep what moved the forecasts of one evening beside its report; whatever goes wrong here costs no forecast.

    Args:
        run: The run.
        fitted: The model that made them.
        known: The sequences that it made them from; they are forecasts from the last session.
        rows: The forecasts: schema.FORECASTS without `kind` and `issued_at`.
    """
    if rows.empty or not hasattr(fitted, "members"):
        return
    try:
        _explain(run, fitted, known, rows)
    except Exception as error:
        say(f"what moved the forecasts is not kept: {error}")


@chapter("explain", timeout=_MINUTES * 60)
def _explain(run: Run, fitted: Any, known: History, rows: pd.DataFrame) -> None:
    made = _attribute(fitted, known, rows)
    save_attributions(place(run.workspace.reports, run.name, rows["target_session"].min()).folder, made)


def _attribute(fitted: Any, known: History, rows: pd.DataFrame) -> pd.DataFrame:
    from models.explain.inspection import explain

    sequences = known.sequences
    symbol = pd.Index(sequences.symbols).get_indexer(pd.Index(rows["symbol"]))
    asked, place = np.unique(symbol, return_inverse=True)
    count = sequences.mask.shape[1]
    found = explain(fitted, sequences.x, sequences.mask, (asked * count + count - 1).astype(np.int32))
    fits = found.attribution.adds_up[place]
    if not fits.all():
        say(f"{int((~fits).sum())} forecasts are not explained: their attributions do not add up")
    horizon = pd.Index(sequences.horizons).get_indexer(pd.Index(rows["horizon"]))
    at, ahead = place[fits], horizon[fits]
    facts = pd.DataFrame(
        {
            "logit": found.attribution.logit[at, ahead],
            "baseline_logit": found.baseline[at, ahead],
            "forecast_logit": found.whole[at, ahead],
            "sessions": found.sessions[at],
        }
    )
    return lay_out(rows[fits], found.attribution.values[at, ..., ahead], sequences.features, facts)


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
            "finding": one.finding,
            "lookback": lookback,
        }
        for horizon, one in zip(horizons, memory, strict=True)
    )
