"""Settle forecasts: seal the outcomes of the sessions that have closed."""

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flows.prices.update import PriceStatus
from flows.runtime.context import Run
from flows.runtime.progress import log_line
from flows.runtime.tasks import task
from flows.training.history import price_panel
from pipeline.features.panel import Panel
from pipeline.features.targets import median_of, part_returns
from pipeline.formatting import format_day
from pipeline.ledger.ledger import UniverseRecord
from pipeline.outputs import Output, list_outputs
from pipeline.prices.ingest.fetch_plan import OVERLAP
from pipeline.report.tables import describe_void
from pipeline.schema import OUTCOMES

__all__ = ["realized_returns", "settle"]


@task("settle")
def settle(run: Run, price_status: PriceStatus, record: UniverseRecord) -> int:
    """Seal the outcome of every forecast whose target session has closed and whose bars are settled.

    The newest settled forecasts are checked again: a return that the vendor has revised since is listed as a
    correction; the first outcome counts. A forecast for a day that turned out closed is void: it has no outcome.

    Returns:
        How many forecasts were settled; void ones are not counted.
    """
    rows, corrections = record.rows, len(record.corrections)
    has_closed, is_open = rows["target_session"] <= price_status.as_of, rows["settled_at"].isna()
    first = run.calendar.sessions[max(run.calendar.position(price_status.as_of) - OVERLAP + 1, 0)]
    due = rows[has_closed & (is_open | (rows["target_session"] >= first))]
    if due.empty:
        log_line("no forecast to settle: no target session has closed")
        return 0
    void = _judge_void(run, price_status, rows[has_closed & is_open])
    current = run.universe.current
    due = due.assign(listing=[current.get(symbol, symbol) for symbol in due["symbol"]])
    # A median is that of all members, also of those without a forecast.
    is_relative = any(output.is_relative for output in list_outputs(due))
    symbols = sorted({*due["listing"], *(run.universe.symbols if is_relative else [])})
    panel = price_panel(
        run, price_status.as_of, price_status.seq, symbols, since=due["as_of"].min(), bars=price_status.bars
    )
    outcomes = pd.concat([_outcomes(run, due, panel, price_status), void], ignore_index=True)
    settled = record.settle(outcomes) - len(void) if len(outcomes) else 0
    corrected = len(record.corrections) - corrections
    asked = int((has_closed & is_open).sum()) - len(void)
    log_line(
        f"settled {settled} of {asked} forecasts whose target session has closed"
        + (f"; the source has revised {corrected} earlier outcomes" if corrected else "")
    )
    return settled


_CLOSED_SHARE: Final = 0.1
"""A day with bars of at most this share of the symbols forecast was a closure: vendors leave a few stale ones."""


def _judge_void(run: Run, price_status: PriceStatus, rows: pd.DataFrame) -> pd.DataFrame:
    """Return schema.OUTCOMES of the open forecasts for a day that the calendar no longer has a session on.

    What is sealed stays, so the prices have to agree: where more symbols have a bar of that day, its forecasts stay
    open, and a line says so. A later session has closed by then, so a wrong row in the file of closures can still be
    corrected on the same evening.

    Args:
        run: The run.
        price_status: How far the prices reach.
        rows: Open forecasts whose target session is not after the last session.
    """
    sessions = run.calendar.sessions
    targets = rows["target_session"]
    is_none = ~targets.isin(sessions) & (targets > sessions[0]) & (targets < price_status.as_of)
    closed = [day for day in sorted({*targets[is_none]}) if _is_closed(run, price_status, rows, day)]
    void = rows[targets.isin(closed)]
    nothing = pd.Series(np.nan, index=void.index)
    judged = void.assign(
        outcome=nothing,
        realized_return=nothing,
        settled_at=pd.Series(run.clock(), index=void.index, dtype="datetime64[us, UTC]"),
        data_version=price_status.seq,
        median_return=nothing,
        median_members=nothing,
        median_basis=pd.Series(np.nan, index=void.index, dtype="str"),
        void_reason=pd.Series([_explain(day) for day in void["target_session"]], void.index, dtype="str"),
    )
    if said := describe_void(judged):
        log_line(said)
    return judged[list(OUTCOMES.columns)]


def _explain(day: pd.Timestamp) -> str:
    return f"the exchange was closed on {format_day(day)}"


def _is_closed(run: Run, price_status: PriceStatus, rows: pd.DataFrame, day: pd.Timestamp) -> bool:
    current = run.universe.current
    symbols = sorted({current.get(each, each) for each in rows.loc[rows["target_session"] == day, "symbol"]})
    bars = (price_status.bars or run.store).read(
        day, price_status.seq, since=day, symbols=symbols, columns=[]
    )
    if len(bars) <= _CLOSED_SHARE * len(symbols):
        return True
    log_line(
        f"{format_day(day)} is no session of {run.calendar.name}, but {len(bars)} of {len(symbols)} symbols have a bar "
        "of it: its forecasts stay open; correct the file of [universe] closures"
    )
    return False


def _outcomes(run: Run, due: pd.DataFrame, panel: Panel, price_status: PriceStatus) -> pd.DataFrame:
    """Return schema.OUTCOMES of the rows whose two bars are settled; `listing` is a symbol's present name."""
    settled = _settled_bars(run, panel, price_status)
    due = due[due["as_of"].isin(panel.sessions) & due["target_session"].isin(panel.sessions)]
    is_settled = settled[_places(panel, due, "as_of")] & settled[_places(panel, due, "target_session")]
    judged = _judge(run, due, panel, settled, price_status.as_of)
    judged = judged[is_settled & judged["median_basis"].ne("").to_numpy()]
    change = judged["realized_return"].to_numpy() - judged["median_return"].fillna(0.0).to_numpy()
    known = judged["median_basis"].isna() | judged["median_return"].notna()
    return judged.assign(
        outcome=np.where(known & ~np.isnan(change) & (change != 0), (change > 0).astype(float), np.nan),
        settled_at=pd.Series(run.clock(), index=judged.index, dtype="datetime64[us, UTC]"),
        data_version=price_status.seq,
        void_reason=pd.Series(np.nan, index=judged.index, dtype="str"),
    )[list(OUTCOMES.columns)]


def _settled_bars(run: Run, panel: Panel, price_status: PriceStatus) -> NDArray[np.bool_]:
    """Return whether the bar is settled, [session, symbol]."""
    prices = (price_status.bars or run.store).read(
        panel.sessions[-1],
        price_status.seq,
        since=panel.sessions[0],
        symbols=panel.symbols,
        columns=["status"],
    )
    prices = prices[(prices["status"] == "settled") & prices["session"].isin(panel.sessions)]
    settled = np.zeros(panel.close.shape, bool)
    settled[_places(panel, prices.assign(listing=prices["symbol"]), "session")] = True
    return settled


def _places(panel: Panel, rows: pd.DataFrame, session: str) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return where in the panel each row's session and listing are."""
    return (
        panel.sessions.get_indexer(pd.DatetimeIndex(rows[session])),
        pd.Index(panel.symbols).get_indexer(pd.Index(rows["listing"])),
    )


def _judge(
    run: Run, rows: pd.DataFrame, panel: Panel, settled: NDArray[np.bool_], as_of: pd.Timestamp
) -> pd.DataFrame:
    """Add realized_return, and for relative targets the median of the members with settled bars and its basis.

    median_basis is empty ("") where a relative outcome has to wait for more settled bars, missing for other targets.
    """
    rows = rows.assign(
        realized_return=realized_returns(panel, rows),
        median_return=np.nan,
        median_members=np.nan,
        median_basis=pd.Series(np.nan, rows.index, dtype="str"),
    )
    relative = rows[rows["target"].str.endswith("relative")]
    for target, begin, end in {
        *zip(relative["target"], relative["as_of"], relative["target_session"], strict=True)
    }:
        same = relative[(relative["target"] == target) & (relative["as_of"] == begin)]
        same = same[same["target_session"] == end]
        first, last = (int(place) for place in panel.sessions.get_indexer(pd.DatetimeIndex([begin, end])))
        both = settled[first] & settled[last]
        returns = np.where(both, part_returns(panel, Output(str(target), last - first))[first], np.nan)
        belongs = run.universe.membership(panel.sessions[[first]], panel.symbols).to_numpy()
        [median], [members] = median_of(returns[None], belongs)
        share = both[_places(panel, same, "as_of")[1]].mean()
        late = len(run.calendar.sessions_between(end, as_of)) > _WAIT
        basis = "90%" if share >= _SHARE else f"{_WAIT} sessions" if late else ""
        rows.loc[same.index, ["median_return", "median_members"]] = median, float(members) or np.nan
        rows.loc[same.index, "median_basis"] = basis
    return rows


_SHARE: Final = 0.9
"""A relative outcome is settled once the bars of so many of the members forecast are settled,"""
_WAIT: Final = 5
"""or once so many sessions have passed since its target session."""


def realized_returns(panel: Panel, rows: pd.DataFrame) -> NDArray[np.float64]:
    """Return the total return of each row over its target's part of the time; NaN where unknown.

    Args:
        panel: Prices that hold both sessions of every row.
        rows: Columns listing (the symbol in the panel), as_of, target_session, target.
    """
    row, column = _places(panel, rows, "as_of")
    ahead = _places(panel, rows, "target_session")[0] - row
    change = np.full(len(rows), np.nan)
    # Not the horizon: the calendar may have gained a session between the two since.
    for target, sessions in {*zip(rows["target"], ahead.tolist(), strict=True)}:
        at = (rows["target"].to_numpy() == target) & (ahead == sessions)
        change[at] = part_returns(panel, Output(str(target), sessions))[row[at], column[at]]
    return change
