"""Attribute tonight's forecasts to the model's inputs, and save that next to the report."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from flows.runtime.context import Run
from flows.runtime.progress import log_line
from flows.runtime.tasks import task
from flows.training.history import History
from models.classifiers.classifier import ClassifierEnsemble
from pipeline.evaluation.attributions import save_attributions, tabulate_attributions
from pipeline.report.files import report_paths

__all__ = ["explain_forecasts"]

_MINUTES = 15
"""Far more than 500 symbols take."""


def explain_forecasts(run: Run, fitted: Any, known: History, rows: pd.DataFrame) -> None:
    """Save the attributions of one session's forecasts next to its report; no error in here costs a forecast.

    Args:
        run: The run.
        fitted: The model that made the forecasts.
        known: The sequences that it read; the forecasts are from the last session.
        rows: The forecasts: schema.FORECASTS without `kind` and `issued_at`.
    """
    if rows.empty or not fitted.explainable:
        return
    try:
        _explain(run, fitted, known, rows)
    except Exception as error:
        log_line(f"the attributions of the forecasts are not saved: {error}")


@task("explain", timeout=_MINUTES * 60)
def _explain(run: Run, fitted: Any, known: History, rows: pd.DataFrame) -> None:
    attributions = _attribute(fitted, known, rows)
    folder = report_paths(run.workspace.reports, run.name, rows["target_session"].min()).folder
    save_attributions(folder, attributions)


def _choose_method(fitted: Any) -> Callable[..., Any]:
    """Return what attributes a model's forecasts: Shapley values for a classifier, else integrated gradients."""
    if isinstance(fitted, ClassifierEnsemble):
        from models.explain.shapley import explain_classifier

        return explain_classifier
    from models.explain.attribution import explain

    return explain


def _attribute(fitted: Any, known: History, rows: pd.DataFrame) -> pd.DataFrame:
    sequences = known.sequences
    symbol = pd.Index(sequences.symbols).get_indexer(pd.Index(rows["symbol"]))
    explained, position = np.unique(symbol, return_inverse=True)
    count = sequences.mask.shape[1]
    rows_explained = (explained * count + count - 1).astype(np.int32)
    found = _choose_method(fitted)(fitted, sequences.x, sequences.mask, rows_explained)
    fits = found.attribution.adds_up[position]
    if not fits.all():
        log_line(f"{int((~fits).sum())} forecasts are not explained: their attributions do not add up")
    at, ahead = position[fits], sequences.outputs_of(rows)[fits]
    facts = pd.DataFrame(
        {
            "logit": found.attribution.logit[at, ahead],
            "baseline_logit": found.baseline[at, ahead],
            "forecast_logit": found.whole[at, ahead],
            "sessions": found.sessions[at],
        }
    )
    return tabulate_attributions(
        rows[fits], found.attribution.values[at, ..., ahead], sequences.features, facts
    )
