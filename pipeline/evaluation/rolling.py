"""The rolling hit rate over time."""

from typing import Final

import numpy as np
import pandas as pd

from pipeline.outputs import Output, select_output

__all__ = ["ROLLING", "roll_hit_rate", "select_record"]


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


def select_record(record: pd.DataFrame, output: Output) -> pd.DataFrame:
    """Return the settled rows of an output to draw: the live ones, or the late ones while there are no live ones."""
    settled = select_output(record[record["outcome"].notna()], output)
    live = settled[settled["kind"] == "live"]
    return live if len(live) else settled
