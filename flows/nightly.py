"""The evening's flow: fetch, check, catch up, settle, forecast, seal, report, publish."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pandas as pd
from prefect import flow, tags

from flows.fetching import Market, update_prices
from flows.forecasting import catch_up, forecast_session, seal
from flows.forecasting import settle as settle_forecasts
from flows.progress import say
from flows.reporting import publish, track, write_report
from flows.retrain import PATIENCE, make_champion
from flows.run import Run, open_run
from flows.tracked import tracking
from pipeline.errors import NextdayError
from pipeline.report import Paths, Report
from pipeline.tracking import RegisteredModel

__all__ = ["Evening", "nightly", "settle_only", "update"]


@dataclass(frozen=True, eq=False)
class Evening:
    """What an evening came to."""

    report: Report
    paths: Paths
    new_rows: int
    settled: int


@flow(name="nightly")
def nightly(config: Path | None = None, home: Path | None = None, now: datetime | None = None) -> Evening:
    """Forecast the next session and write it down; doing it twice changes nothing.

    Args:
        config: The configuration file.
        home: The workspace.
        now: The clock; default: the wall clock.
    """
    run = open_run(config, home, now)
    with run.workspace.locked(run.name, timeout=PATIENCE, tell=say), tags(run.name):
        return _evening(run)


@flow(name="update")
def update(config: Path | None = None, home: Path | None = None, now: datetime | None = None) -> Market:
    """Fetch and check prices."""
    run = open_run(config, home, now)
    with run.workspace.locked(run.name, timeout=PATIENCE, tell=say), tags(run.name):
        return update_prices(run)


@flow(name="settle")
def settle_only(config: Path | None = None, home: Path | None = None, now: datetime | None = None) -> int:
    """Fetch prices and settle the forecasts whose session has come."""
    run = open_run(config, home, now)
    with run.workspace.locked(run.name, timeout=PATIENCE, tell=say), tags(run.name):
        return settle_forecasts(run, update_prices(run))


def _evening(run: Run) -> Evening:
    market, book = update_prices(run), tracking(run)
    remarks = catch_up(run, market, book.versions(run.name))
    settled = settle_forecasts(run, market)
    champion = book.champion(run.name)
    if champion is None:
        say("there is no champion yet: training one")
        champion, _ = make_champion(run, market)
    standing = _forecast_tonight(run, market, champion)
    report, paths = write_report(run, market, standing, remarks)
    new_rows = int(standing["is_new"].sum())
    try:
        track(run, report, paths)
    except NextdayError as error:
        say(f"the evening is sealed and reported, but not tracked; the next run tries again. {error}")
    if not new_rows:
        say(f"nothing new: the forecasts for {report.target_session:%Y-%m-%d} stand already")
    publish(report)
    return Evening(report, paths, new_rows, settled)


def _forecast_tonight(run: Run, market: Market, champion: RegisteredModel) -> pd.DataFrame:
    """Return the standing rows; the network is only loaded if a member has none yet."""
    standing = run.ledger.forecasts(run.name, as_of=market.as_of)
    standing = standing[standing["role"] == "champion"]
    waiting = set(run.universe.members(market.as_of)) - set(standing["symbol"]) - set(market.missing)
    if not waiting:
        return standing.assign(is_new=False)
    rows = forecast_session(run, market.as_of, market.seq, champion)
    if rows.empty:
        raise NextdayError(
            f"No member of {run.name!r} has a whole window on {market.as_of:%Y-%m-%d}",
            where=str(run.store.folder),
            way_out="the champion reads many sessions without a hole; `nextday update` lists what is missing",
        )
    return seal(run, rows, market.as_of, market.observed_at)
