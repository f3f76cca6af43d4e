"""Write down what happened."""

import numpy as np
import pandas as pd

from flows.prices.update import PriceStatus
from flows.runtime.context import Run
from flows.runtime.progress import log_line
from flows.runtime.tasks import task
from flows.training.history import price_panel
from pipeline.features.panel import Panel
from pipeline.features.sequences import total_returns
from pipeline.prices.ingest.fetch_plan import OVERLAP
from pipeline.schema import FORECAST_KEY

__all__ = ["settle"]


@task("settle")
def settle(run: Run, market: PriceStatus) -> int:
    """Write down what happened to every forecast whose session has come and whose bars are settled.

    The newest settled ones are looked at again: what the vendor has revised since is listed beside the first outcome,
    which counts.

    Returns:
        How many forecasts were settled.
    """
    record, known = run.ledger.record(run.name), len(run.ledger.corrections(run.name))
    has_come, is_open = record["target_session"] <= market.as_of, record["settled_at"].isna()
    first = run.calendar.sessions[max(run.calendar.position(market.as_of) - OVERLAP + 1, 0)]
    asked = record[has_come & (is_open | (record["target_session"] >= first))]
    if asked.empty:
        log_line("no forecast waits for a session that has come")
        return 0
    current = run.universe.current
    asked = asked.assign(listing=[current.get(symbol, symbol) for symbol in asked["symbol"]])
    symbols = sorted(asked["listing"].unique())
    panel = price_panel(run, market.as_of, market.seq, symbols, since=asked["as_of"].min())
    outcomes = _outcomes(run, asked, panel, market.seq)
    settled = run.ledger.settle(outcomes, universe=run.name) if not outcomes.empty else 0
    corrected = len(run.ledger.corrections(run.name)) - known
    log_line(
        f"settled {settled} of {int((has_come & is_open).sum())} forecasts that waited for their session"
        + (f"; {corrected} earlier outcomes are given otherwise now" if corrected else "")
    )
    return settled


def _outcomes(run: Run, waiting: pd.DataFrame, panel: Panel, seq: int) -> pd.DataFrame:
    """Return schema.OUTCOMES for the rows whose two bars are settled; `listing` is the present name of a symbol."""
    prices = run.store.read(
        panel.sessions[-1], seq, since=panel.sessions[0], symbols=panel.symbols, columns=["status"]
    )
    settled = pd.MultiIndex.from_frame(prices.loc[prices["status"] == "settled", ["symbol", "session"]])
    both = [pd.MultiIndex.from_frame(waiting[["listing", name]]) for name in ("as_of", "target_session")]
    waiting = waiting[both[0].isin(settled) & both[1].isin(settled)]
    waiting = waiting[waiting["as_of"].isin(panel.sessions) & waiting["target_session"].isin(panel.sessions)]
    column = pd.Index(panel.symbols).get_indexer(pd.Index(waiting["listing"]))
    row, target = (
        panel.sessions.get_indexer(pd.DatetimeIndex(waiting[name])) for name in ("as_of", "target_session")
    )
    change = np.full(len(waiting), np.nan)
    # Not the horizon: a session that was written down later may lie between the two.
    for ahead in np.unique(target - row):
        at = target - row == ahead
        change[at] = total_returns(panel, int(ahead))[row[at], column[at]]
    return waiting[FORECAST_KEY].assign(
        outcome=np.where(np.isnan(change) | (change == 0), np.nan, (change > 0).astype(float)),
        realized_return=change,
        settled_at=pd.Series(run.clock(), index=waiting.index, dtype="datetime64[us, UTC]"),
        data_version=seq,
    )
