"""The evening's flow: fetch, check, catch up, settle, forecast, seal, report, publish."""

from dataclasses import dataclass
from datetime import datetime
from itertools import product
from pathlib import Path

import pandas as pd
from prefect import flow

from flows.evening.forecasting import catch_up, champion_known_at, forecast_session, seal
from flows.evening.publish import publish, track
from flows.evening.reporting import write_missing, write_report
from flows.evening.settlement import settle as settle_forecasts
from flows.prices.update import PriceStatus, update_prices
from flows.runtime.context import Run
from flows.runtime.custom_code import require_audit, require_named_code
from flows.runtime.progress import PREFECT_ERRORS, log_line
from flows.runtime.tasks import MAX_SECONDS, open_locked_run
from flows.runtime.tracking import tracking
from flows.training.champion import make_champion
from models.ensembles.model_files import read_metadata
from pipeline.errors import InputError, NextdayError
from pipeline.report.evening_report import Report
from pipeline.report.files import Paths
from pipeline.tracking.registry import RegisteredModel
from pipeline.tracking.runs import Tracking

__all__ = ["Evening", "nightly", "settle_only", "update"]


@dataclass(frozen=True, eq=False)
class Evening:
    """What an evening came to."""

    report: Report
    paths: Paths
    new_rows: int
    settled: int


@flow(name="nightly", timeout_seconds=MAX_SECONDS, persist_result=False)
def nightly(config: Path | None = None, home: Path | None = None, now: datetime | None = None) -> Evening:
    """Forecast the next session and write it down; doing it twice changes nothing.

    Args:
        config: The configuration file.
        home: The workspace.
        now: The clock; default: the wall clock.
    """
    with open_locked_run(config, home, now) as run:
        return _evening(run)


@flow(name="update", timeout_seconds=MAX_SECONDS, persist_result=False)
def update(config: Path | None = None, home: Path | None = None, now: datetime | None = None) -> PriceStatus:
    """Fetch and check prices."""
    with open_locked_run(config, home, now) as run:
        return update_prices(run)


@flow(name="settle", timeout_seconds=MAX_SECONDS, persist_result=False)
def settle_only(config: Path | None = None, home: Path | None = None, now: datetime | None = None) -> int:
    """Fetch prices and settle the forecasts whose session has come."""
    with open_locked_run(config, home, now) as run:
        return settle_forecasts(run, update_prices(run))


def _evening(run: Run) -> Evening:
    market, book = update_prices(run), tracking(run)
    require_audit(run)
    remarks = catch_up(run, market, book.versions(run.name))
    remarks += write_missing(run, before=market.as_of)
    settled = settle_forecasts(run, market)
    standing = _forecast_tonight(run, market, book)
    report, paths = write_report(run, market, standing, remarks)
    new_rows = int(standing["is_new"].sum())
    try:
        track(run, report, paths)
    except (NextdayError, TimeoutError) as error:
        log_line(
            f"the evening is sealed and reported, but not tracked; running it again tries again. {error}"
        )
    if not new_rows:
        log_line(f"nothing new: the forecasts for {report.target_session:%Y-%m-%d} stand already")
    try:
        publish(report)
    except (*PREFECT_ERRORS, TimeoutError) as error:
        log_line(f"the evening is sealed and reported, but Prefect does not show it: {error}")
    return Evening(report, paths, new_rows, settled)


def _forecast_tonight(run: Run, market: PriceStatus, book: Tracking) -> pd.DataFrame:
    """Return the standing rows; a model is only asked if a member lacks one at a horizon that is configured.

    Only what is lacking is sealed: a closure or a new name since would give what stands another key.
    """
    standing = run.ledger.forecasts(run.name, as_of=market.as_of)
    standing = standing[standing["role"] == "champion"].assign(is_new=False)
    spoken_for = {*zip(standing["symbol"].replace(run.universe.current), standing["horizon"], strict=True)}
    present = set(run.universe.members(market.as_of)) - set(market.missing)
    waiting = {*product(present, run.config.labels.horizons)} - spoken_for
    if not waiting:
        return standing
    champion = _champion(run, market, book)
    require_named_code(run, read_metadata(champion.directory)["extra"], champion.directory)
    rows = forecast_session(run, market.as_of, market.seq, champion)
    if rows.empty:
        raise NextdayError(
            f"No member of {run.name!r} has a whole window on {market.as_of:%Y-%m-%d}",
            where=str(run.store.folder),
            fix="the champion reads many sessions without a hole; `nextday update` lists what is missing",
        )
    lacking = [key in waiting for key in zip(rows["symbol"], rows["horizon"], strict=True)]
    if not any(lacking):
        return standing
    sealed = seal(run, rows[lacking], market.as_of, market.observed_at)
    whole = pd.concat([standing, sealed]) if len(standing) else sealed
    return whole.sort_values(["symbol", "target_session"], ignore_index=True)


def _champion(run: Run, market: PriceStatus, book: Tracking) -> RegisteredModel:
    """Return the model that speaks tonight: the champion, or after a clock set back the one that was known then."""
    champion = book.champion(run.name)
    if champion is None:
        log_line("there is no champion yet: training one")
        return make_champion(run, market)[0]
    if champion.trained_through <= market.as_of:
        return champion
    known_then = champion_known_at(book.versions(run.name), market.as_of)
    if known_then is None:
        raise InputError(
            f"No model was known on {market.as_of:%Y-%m-%d}: all were trained on later sessions",
            where="--now",
            fix="leave --now away, or try a past evening in a workspace of its own (--home)",
        )
    return known_then
