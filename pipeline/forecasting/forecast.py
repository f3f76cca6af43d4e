"""The only forecast function, and the choice of directions."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.features.sequences import Sequences
from pipeline.forecasting.model import Fitted
from pipeline.market.calendar import Calendar
from pipeline.outputs import TARGETS
from pipeline.schema import DIRECTIONS

__all__ = ["choose_directions", "forecast", "forecast_packed"]

Floats = NDArray[np.float64]


def forecast(fitted: Fitted, sequences: Sequences, rows: range, calendar: Calendar) -> pd.DataFrame:
    """Forecast every symbol with enough history at the sessions of `rows`.

    Forecasts whose target session is beyond the end of the calendar are left out.

    Args:
        fitted: The model.
        sequences: The sequences that it was fitted with; for a loaded model, those from its first session on.
        rows: Session numbers.
        calendar: The source of target sessions.

    Returns:
        symbol, as_of, target_session, horizon, target, p_up, low, high, direction; one row per forecast, sorted by
        as_of, symbol and output.
    """
    made = forecast_packed(fitted, sequences, rows, calendar)
    return made.astype({"symbol": "str", "direction": "str", "target": "str", "horizon": "int64"})


def forecast_packed(fitted: Fitted, sequences: Sequences, rows: range, calendar: Calendar) -> pd.DataFrame:
    """Forecast as `forecast` does, with categories: less than half the memory, for tens of millions of rows."""
    first = fitted.first_session(rows.start)
    made = fitted.predict(sequences.x[:, first : rows.stop], sequences.mask[:, first : rows.stop])
    low, p_up, high = (
        np.asarray(a, float)[:, rows.start - first :] for a in (made.low, made.p_up, made.high)
    )
    last_known = len(calendar.sessions) - 1
    number = calendar.sessions.get_indexer(sequences.sessions[rows.start : rows.stop])
    target = number[:, None] + np.array(sequences.horizons)
    is_valid = np.isfinite(p_up) & (target <= last_known) & sequences.asked[:, rows.start : rows.stop]
    session, symbol, output = np.nonzero(is_valid.transpose(1, 0, 2))
    cell = (symbol, session, output)
    threshold = np.broadcast_to(fitted.threshold, (len(sequences.symbols), len(sequences.outputs)))
    relative = np.array([each.is_relative for each in sequences.outputs])
    targets = [TARGETS.index(each.target) for each in sequences.outputs]
    return pd.DataFrame(
        {
            "symbol": pd.Categorical.from_codes(symbol, pd.Index(sequences.symbols)),
            "as_of": sequences.sessions[rows.start : rows.stop][session],
            "target_session": calendar.sessions[target[session, output]],
            "horizon": np.array(sequences.horizons, np.int16)[output],
            "target": pd.Categorical.from_codes(np.array(targets, np.int8)[output], pd.Index(TARGETS)),
            "p_up": p_up[cell],
            "low": low[cell],
            "high": high[cell],
            "direction": choose_directions(p_up[cell], threshold[symbol, output], relative[output]),
        }
    )


def choose_directions(
    p_up: Floats, threshold: Floats | float = 0.0, relative: NDArray[np.bool_] | bool = False
) -> "pd.Categorical[str]":
    """Return the directions [row]: up or down where |p_up - 0.5| is at least `threshold`, else none (abstain).

    A p_up of exactly 0.5 has no direction. Where `relative` holds they are above and below.
    """
    is_issued = np.abs(p_up - 0.5) >= threshold
    codes = np.select([is_issued & (p_up > 0.5), is_issued & (p_up < 0.5)], [0, 1], 2)
    codes = np.where(relative & (codes < 2), codes + 3, codes)
    return pd.Categorical.from_codes(codes, pd.Index(DIRECTIONS))
