"""A record over time: the rolling hit rate, and the log loss saved per session, as a rolling mean and a running sum."""

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.evaluation.aligned import gather_labelled
from pipeline.outputs import Output, select_output
from pipeline.schema import MIN_SESSIONS
from pipeline.statistics import significance

__all__ = ["ROLLING", "roll_hit_rate", "roll_saved", "select_record"]


ROLLING: Final = 60
"""Sessions in the window of a rolling hit rate: about a quarter, enough for an interval, short enough for changes."""


def roll_hit_rate(rows: pd.DataFrame, baseline: pd.DataFrame) -> pd.DataFrame:
    """Return the rolling hit rate over ROLLING sessions, with an interval clustered by session.

    The interval is that of a ratio of session sums (Cochran 1977, Sampling Techniques, section 6.4), sessions
    taken as independent: rate -+ 1.96 sqrt(W / (W - 1) sum (hits - rate n)^2) / sum n.
    """
    hits, n = _hits_by_session(rows)
    sums = pd.DataFrame({"h": hits, "n": n, "hh": hits**2, "hn": hits * n, "nn": n**2}).rolling(ROLLING).sum()
    rate = sums["h"] / sums["n"]
    spread = (sums["hh"] - 2 * rate * sums["hn"] + rate**2 * sums["nn"]).clip(lower=0)
    half = 1.96 * np.sqrt(spread * ROLLING / (ROLLING - 1)) / sums["n"]
    base_hits, base_n = (counts.rolling(ROLLING).sum() for counts in _hits_by_session(baseline))
    table = pd.DataFrame(
        {"rate": rate, "low": rate - half, "high": rate + half, "baseline_rate": base_hits / base_n}
    ).reindex(rate.index)
    return table.dropna(subset="rate").rename_axis("session").reset_index()


def _hits_by_session(rows: pd.DataFrame) -> tuple["pd.Series[float]", "pd.Series[float]"]:
    issued = rows[rows["p_up"] != 0.5]
    hits = (
        ((issued["p_up"] > 0.5) == (issued["outcome"] == 1)).astype(float).groupby(issued["target_session"])
    )
    return hits.sum(), hits.count().astype(float)


def roll_saved(rows: pd.DataFrame, *, model: str, baseline: str) -> pd.DataFrame:
    """Return the log loss that a model saves against a baseline, session by session.

    The standard errors are those of Newey and West (1987), with as many autocovariances as `newey_west_lag` gives: 1.96
    of them are the rolling band, and around zero what the running sum of a model without skill stays within in 95% of
    cases at one given session. Looked at every evening it leaves that range more often.

    Args:
        rows: As for `scores.score`: both models, one output.
        model: The model.
        baseline: The baseline.

    Returns:
        session, saved (nats, mean over the session's rows), total (its running sum), chance (half the width of the
        range around zero), mean, low and high (over the last ROLLING sessions). NaN: chance with fewer than
        MIN_SESSIONS * horizon sessions, the mean before the ROLLING-th one, and its band where ROLLING is too few.
    """
    table = gather_labelled(rows, {model, baseline})
    days = table.levels[-1][np.unique(table.target)]
    if not table.sessions:
        return pd.DataFrame({name: [] for name in ("session", *_SAVED)}, dtype=float)
    saved = significance.drop_rounding(table.log_loss(baseline) - table.log_loss(model))
    made = pd.DataFrame({"session": days, "saved": saved, "total": saved.cumsum()})
    made = made.assign(
        chance=_reach_of_chance(saved, table.horizon), mean=made["saved"].rolling(ROLLING).mean()
    )
    half = np.full(len(saved), np.nan)
    if len(saved) >= ROLLING >= MIN_SESSIONS * table.horizon:
        lag = significance.newey_west_lag(ROLLING, table.horizon)
        windows = np.lib.stride_tricks.sliding_window_view(saved, ROLLING)
        variance = [significance.long_run_variance(window, lag) for window in windows]
        half[ROLLING - 1 :] = 1.96 * np.sqrt(np.array(variance) / ROLLING)
    return made.assign(low=made["mean"] - half, high=made["mean"] + half)


_SAVED: Final = ("saved", "total", "chance", "mean", "low", "high")


def _reach_of_chance(saved: NDArray[np.float64], horizon: int) -> NDArray[np.float64]:
    """Return 1.96 standard errors of the sum of the first sessions, [session]; NaN with too few sessions in all."""
    n = len(saved)
    if n < MIN_SESSIONS * horizon:
        return np.full(n, np.nan)
    variance = significance.long_run_variance(saved, significance.newey_west_lag(n, horizon))
    return np.asarray(1.96 * np.sqrt(variance * np.arange(1, n + 1)))


def select_record(record: pd.DataFrame, output: Output) -> pd.DataFrame:
    """Return the settled rows of an output to draw: the live ones, or the late ones while there are no live ones."""
    settled = select_output(record[record["outcome"].notna()], output)
    live = settled[settled["kind"] == "live"]
    return live if len(live) else settled
