"""Settle forecasts: seal the outcomes of the sessions that have closed."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flows.prices.update import PriceStatus
from flows.runtime.context import Run
from flows.runtime.progress import log_line
from flows.runtime.tasks import task
from flows.training.history import price_panel
from pipeline.features.panel import Panel
from pipeline.features.sequences import total_returns
from pipeline.ledger.ledger import UniverseRecord
from pipeline.prices.ingest.fetch_plan import OVERLAP
from pipeline.schema import FORECAST_KEY

__all__ = ["realized_returns", "settle"]


@task("settle")
def settle(run: Run, price_status: PriceStatus, record: UniverseRecord) -> int:
    """Seal the outcome of every forecast whose target session has closed and whose bars are settled.

    The newest settled forecasts are checked again: a return that the vendor has revised since is listed as a
    correction; the first outcome counts.

    Returns:
        How many forecasts were settled.
    """
    rows, corrections = record.rows, len(record.corrections)
    has_closed, is_open = rows["target_session"] <= price_status.as_of, rows["settled_at"].isna()
    first = run.calendar.sessions[max(run.calendar.position(price_status.as_of) - OVERLAP + 1, 0)]
    due = rows[has_closed & (is_open | (rows["target_session"] >= first))]
    if due.empty:
        log_line("no forecast to settle: no target session has closed")
        return 0
    current = run.universe.current
    due = due.assign(listing=[current.get(symbol, symbol) for symbol in due["symbol"]])
    symbols = sorted(due["listing"].unique())
    panel = price_panel(
        run, price_status.as_of, price_status.seq, symbols, since=due["as_of"].min(), bars=price_status.bars
    )
    outcomes = _outcomes(run, due, panel, price_status)
    settled = record.settle(outcomes) if not outcomes.empty else 0
    corrected = len(record.corrections) - corrections
    log_line(
        f"settled {settled} of {int((has_closed & is_open).sum())} forecasts whose target session has closed"
        + (f"; the source has revised {corrected} earlier outcomes" if corrected else "")
    )
    return settled


def _outcomes(run: Run, due: pd.DataFrame, panel: Panel, price_status: PriceStatus) -> pd.DataFrame:
    """Return schema.OUTCOMES of the rows whose two bars are settled; `listing` is a symbol's present name."""
    prices = (price_status.bars or run.store).read(
        panel.sessions[-1],
        price_status.seq,
        since=panel.sessions[0],
        symbols=panel.symbols,
        columns=["status"],
    )
    settled = pd.MultiIndex.from_frame(prices.loc[prices["status"] == "settled", ["symbol", "session"]])
    both = [pd.MultiIndex.from_frame(due[["listing", name]]) for name in ("as_of", "target_session")]
    due = due[both[0].isin(settled) & both[1].isin(settled)]
    due = due[due["as_of"].isin(panel.sessions) & due["target_session"].isin(panel.sessions)]
    change = realized_returns(panel, due)
    return due[FORECAST_KEY].assign(
        outcome=np.where(np.isnan(change) | (change == 0), np.nan, (change > 0).astype(float)),
        realized_return=change,
        settled_at=pd.Series(run.clock(), index=due.index, dtype="datetime64[us, UTC]"),
        data_version=price_status.seq,
    )


def realized_returns(panel: Panel, rows: pd.DataFrame) -> NDArray[np.float64]:
    """Return the total return of each row, from the close of `as_of` to that of `target_session`; NaN where unknown.

    Args:
        panel: Prices that hold both sessions of every row.
        rows: Columns listing (the symbol in the panel), as_of, target_session.
    """
    column = pd.Index(panel.symbols).get_indexer(pd.Index(rows["listing"]))
    row, target = (
        panel.sessions.get_indexer(pd.DatetimeIndex(rows[name])) for name in ("as_of", "target_session")
    )
    change = np.full(len(rows), np.nan)
    # Not the horizon: the calendar may have gained a session between the two since.
    for ahead in np.unique(target - row):
        at = target - row == ahead
        change[at] = total_returns(panel, int(ahead))[row[at], column[at]]
    return change
