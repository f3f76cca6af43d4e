"""Look into the networks: once a training at what they read, every evening at what moved the forecasts."""

from typing import Any

import numpy as np
import pandas as pd

from flows.runtime.context import Run
from flows.runtime.progress import log_line
from flows.runtime.tasks import task
from flows.training.history import History
from flows.training.network_insight import _MINUTES
from pipeline.evaluation.attributions import save_attributions, tabulate_attributions
from pipeline.report.files import report_paths

__all__ = ["explain_forecasts"]


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
        log_line(f"what moved the forecasts is not kept: {error}")


@task("explain", timeout=_MINUTES * 60)
def _explain(run: Run, fitted: Any, known: History, rows: pd.DataFrame) -> None:
    made = _attribute(fitted, known, rows)
    save_attributions(
        report_paths(run.workspace.reports, run.name, rows["target_session"].min()).folder, made
    )


def _attribute(fitted: Any, known: History, rows: pd.DataFrame) -> pd.DataFrame:
    from models.explain.inspection import explain

    sequences = known.sequences
    symbol = pd.Index(sequences.symbols).get_indexer(pd.Index(rows["symbol"]))
    asked, place = np.unique(symbol, return_inverse=True)
    count = sequences.mask.shape[1]
    found = explain(fitted, sequences.x, sequences.mask, (asked * count + count - 1).astype(np.int32))
    fits = found.attribution.adds_up[place]
    if not fits.all():
        log_line(f"{int((~fits).sum())} forecasts are not explained: their attributions do not add up")
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
    return tabulate_attributions(
        rows[fits], found.attribution.values[at, ..., ahead], sequences.features, facts
    )
