"""Members without a bar on an evening that was forecast: they get a late row once their bar has come."""

from collections.abc import Collection
from dataclasses import replace
from typing import Final

import pandas as pd

from flows.evening.forecasting import Inputs, forecast_late, issue
from flows.prices.update import PriceStatus
from flows.runtime.context import Run, with_former_settings
from flows.runtime.progress import log_line, log_quietly
from flows.training.verified_champion import Champions
from models.errors import ModelError
from pipeline.errors import NextdayError
from pipeline.formatting import count, format_day
from pipeline.ledger.ledger import UniverseRecord
from pipeline.plugins import describe_error
from pipeline.prices.ingest.fetch_plan import OVERLAP
from pipeline.prices.recent_bars import RecentBars
from pipeline.schema import is_void

__all__ = ["catch_up_members"]

_NAMED: Final = 8
"""Symbols in a sentence."""


def catch_up_members(
    run: Run, price_status: PriceStatus, record: UniverseRecord, champions: Champions
) -> list[str]:
    """Forecast the members whose bar of an earlier evening was missing then and has come since; seal that as late.

    Each is forecast as the others were on that evening: with the same model, settings and constituents, from the
    sessions up to then. It looks back as many sessions as every run asks the source for again. Whoever was no member
    then, is in quarantine now, or has still a gap in its window is left alone; of a bar that is still missing nothing
    is said.

    Args:
        run: The run.
        price_status: How far the prices reach.
        record: The universe's part of the ledger.
        champions: The registered models.

    Returns:
        A remark on each session with such forecasts, or whose forecasts failed unexpectedly.
    """
    first = run.calendar.sessions[max(run.calendar.position(price_status.as_of) - OVERLAP, 0)]
    rows = record.rows[record.rows["as_of"].between(first, price_status.as_of, inclusive="left")]
    rows = rows[rows["as_of"].isin(run.calendar.sessions)]
    bars = price_status.bars or RecentBars(run.store, first, price_status.as_of, price_status.seq)
    remarks = []
    for _, standing in rows.groupby("as_of"):
        came = [] if is_void(standing).any() else _find_late_bars(run, standing, bars)
        if came and (said := _catch_up(run, standing, came, price_status, record, champions)):
            log_line(said)
            remarks.append(f"{said}.")
    return remarks


def _find_late_bars(run: Run, standing: pd.DataFrame, bars: RecentBars) -> list[str]:
    """Return the members without a row of a session, for which a bar up to it came after the others' rows."""
    as_of, current = standing["as_of"].iloc[0], run.universe.current
    lacking = {*run.universe.members(as_of)} - {current.get(each, each) for each in standing["symbol"]}
    if not lacking:
        return []
    seen = bars.first_seen(sorted(lacking))
    seen = seen[seen["session"] <= as_of]
    place = run.calendar.position(as_of)
    begin = max(run.calendar.sessions[max(place - run.config.model.lookback + 1, 0)], bars.since)
    whole = len(run.calendar.sessions_between(begin, as_of))
    known = int(standing["data_version"].min())
    came = [
        str(symbol)
        for symbol, own in seen.groupby("symbol")
        if (own["seq"] > known).any() and (own["session"] >= begin).sum() == whole
    ]
    if not came:
        return []
    held = {id_ for id_, entry in run.fetch_log.quarantined().items() if not entry.is_released}
    return [symbol for symbol in came if run.universe.instruments[symbol] not in held]


def _catch_up(
    run: Run,
    standing: pd.DataFrame,
    symbols: Collection[str],
    price_status: PriceStatus,
    record: UniverseRecord,
    champions: Champions,
) -> str:
    """Seal the late rows of these symbols for a session; return a remark, empty where none can be made.

    No error in here costs the evening. One that is expected, as of a model whose files are gone, is logged quietly, for
    every evening meets it again; any other, as of custom code in a place where it should not fail, is the remark.
    """
    as_of, current = standing["as_of"].iloc[0], run.universe.current
    failed = f"{format_day(as_of)}: {', '.join(symbols)} cannot be caught up"
    version, settings = standing[["model_version", "config_digest"]].value_counts().index[0]
    try:
        former, champion = with_former_settings(run, settings), champions.version(version)
        if not {*symbols} & {current.get(each, each) for each in former.universe.members(as_of)}:
            return ""
        # The bars that were read tonight are by the symbols' names of today.
        rows = forecast_late(Inputs(former, as_of, replace(price_status, bars=None)), champion)
    except (NextdayError, ModelError) as error:
        log_quietly(f"{failed}: {error}")
        return ""
    except Exception as error:
        return f"{failed}: {describe_error(error)}"
    named = [each for each in {*rows["symbol"]} if current.get(each, each) in symbols]
    rows = rows[rows["symbol"].isin(named) & rows["target_session"].isin(run.calendar.sessions)]
    if rows.empty:
        return ""
    issue(run, record, rows, as_of, price_status.observed_at)
    names = [*dict.fromkeys(rows["symbol"])]
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return (
        f"Caught up as late: {count(len(names), 'symbol')} from {format_day(as_of)}, whose bar came after the other "
        f"forecasts of that session were sealed: {', '.join(names[:_NAMED])}{more}"
    )
