"""The nightly flow: fetch, check, catch up, settle, forecast, seal, report, publish."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from itertools import product
from pathlib import Path

import pandas as pd
from prefect import flow

from flows.evening.challengers import decide_challengers, forecast_challengers, list_standings
from flows.evening.decay import stop_decayed
from flows.evening.forecasting import Inputs, catch_up, describe_opens, forecast_session, seal
from flows.evening.late_members import catch_up_members
from flows.evening.publishing.commit import commit_sealed
from flows.evening.publishing.copy_reports import copy_reports
from flows.evening.publishing.publish import publish, track
from flows.evening.publishing.site import show_site
from flows.evening.reporting import write_missing, write_report
from flows.evening.settlement import settle as settle_forecasts
from flows.notify.messages import describe_decay
from flows.notify.news import list_news, tell
from flows.notify.watch import NIGHTLY, watched
from flows.prices.unchanged import recall_reading
from flows.prices.update import PriceStatus, update_prices
from flows.runtime.context import Run
from flows.runtime.custom_code import require_audit, require_named_code
from flows.runtime.progress import PREFECT_ERRORS, log_line
from flows.runtime.tasks import MAX_SECONDS, open_locked_run
from flows.runtime.tracking import follow_shared_models
from flows.training.champion import make_champion
from flows.training.compute import require_gpu
from flows.training.history import describe_context
from flows.training.verified_champion import Champion, Champions
from models.ensembles.model_files import model_version
from pipeline.errors import InputError, NextdayError
from pipeline.ledger.known_head import ledger_exists
from pipeline.ledger.ledger import UniverseRecord
from pipeline.memory import return_freed_memory
from pipeline.outputs import Output, list_outputs, select_main
from pipeline.report.evening_report import Report
from pipeline.report.files import Paths
from pipeline.tracking.registry import Registry

__all__ = ["Evening", "has_champion", "is_sealed", "nightly", "settle_only", "update"]


@dataclass(frozen=True, eq=False)
class Evening:
    """The result of a nightly run.

    Attributes:
        report: Its report.
        paths: The report's files.
        new_rows: How many forecasts it sealed for tonight's session.
        settled: How many forecasts it settled.
    """

    report: Report
    paths: Paths
    new_rows: int
    settled: int


@flow(name="nightly", timeout_seconds=MAX_SECONDS, persist_result=False)
def nightly(config: Path | None = None, home: Path | None = None, now: datetime | None = None) -> Evening:
    """Forecast the next session, seal and report it; a second run changes nothing.

    Args:
        config: The configuration file.
        home: The workspace.
        now: The clock; default: the wall clock.
    """
    with watched(NIGHTLY, config, home, now), open_locked_run(config, home, now) as run:
        return _evening(run)


@flow(name="update", timeout_seconds=MAX_SECONDS, persist_result=False)
def update(config: Path | None = None, home: Path | None = None, now: datetime | None = None) -> PriceStatus:
    """Fetch and check prices."""
    with open_locked_run(config, home, now) as run:
        return update_prices(run)


@flow(name="settle", timeout_seconds=MAX_SECONDS, persist_result=False)
def settle_only(config: Path | None = None, home: Path | None = None, now: datetime | None = None) -> int:
    """Fetch prices and settle the forecasts whose target session has closed."""
    with open_locked_run(config, home, now) as run:
        price_status = update_prices(run)
        return settle_forecasts(run, price_status, run.ledger.universe_record(run.name))


def is_sealed(run: Run) -> bool:
    """Whether every member's forecasts from the newest closed session are sealed: no network is needed any more.

    Then a nightly run only updates prices, settles, and writes the report again.
    """
    newest = _newest_closed(run)
    if newest is None or not ledger_exists(run.workspace.ledger):
        return False
    standing = run.ledger.forecasts(run.name, as_of=newest)
    standing = standing[standing["role"] == "champion"]
    return not _find_lacking(run, standing, run.universe.members(newest))


def has_champion(run: Run) -> bool:
    """Whether a champion was promoted already; its files are not read."""
    return Registry(run.workspace.home, model_version).serving(run.name) is not None


def _newest_closed(run: Run) -> pd.Timestamp | None:
    """Return the newest session that has closed, of a historical source the last one; None if only a fetch can tell."""
    if not run.is_historical:
        return run.last_closed
    if not run.source.is_local:
        return None
    if read := recall_reading(run):
        return read.newest
    since, until = pd.Timestamp(run.config.prices.start), run.last_closed
    answers = [run.source.fetch(symbol, since, until, run.now) for symbol in run.universe.symbols]
    sessions = pd.concat([answer.bars["session"] for answer in answers])
    closed = sessions[sessions <= until]
    return None if closed.empty else closed.max()


def _find_lacking(run: Run, standing: pd.DataFrame, symbols: Collection[str]) -> set[tuple[str, Output]]:
    """Return which of the symbols lack a sealed row, by current name and configured output."""
    current = standing.assign(symbol=standing["symbol"].replace(run.universe.current))
    # Forecasts of one evening are sealed together: where others have this output, the symbol cannot be asked for it.
    made = [each for each in list_outputs(current) if each.needs_open or each.is_relative]
    sealed = {*_list_keys(current), *product(current["symbol"], made)}
    return {*product(symbols, run.config.labels.outputs)} - sealed


def _list_keys(rows: pd.DataFrame) -> list[tuple[str, Output]]:
    outputs = map(Output, rows["target"], rows["horizon"])
    return list(zip(rows["symbol"], outputs, strict=True))


def _evening(run: Run) -> Evening:
    follow_shared_models(run)
    # A champion forecasts on the processor.
    if run.config.training.used_device == "gpu" and not has_champion(run):
        require_gpu(run)
    price_status = update_prices(run)
    require_audit(run)
    # Both are read once: what this run seals and trains is added, and nothing else writes while it holds the lock.
    record, champions = run.ledger.universe_record(run.name), Champions(run)
    remarks = catch_up(run, price_status, record, champions)
    remarks += catch_up_members(run, price_status, record, champions)
    remarks += write_missing(run, record, champions, before=price_status.as_of)
    settled = settle_forecasts(run, price_status, record)
    remarks += decide_challengers(run, record, champions, price_status.as_of)
    run = stop_decayed(run, record)
    inputs = Inputs(run, price_status.as_of, price_status)
    standing = _forecast_tonight(run, price_status, record, champions, inputs)
    champion = champions.version(str(select_main(standing)["model_version"].iloc[0]))
    remarks += forecast_challengers(run, inputs, record, champions, champion)
    commit_sealed(run)
    challengers = list_standings(run, record.rows, champions, price_status.as_of)
    report, paths = write_report(run, price_status, standing, record, champion, remarks, challengers)
    new_rows = int(standing["is_new"].sum())
    try:
        track(run, report, paths, champion)
    except (NextdayError, TimeoutError) as error:
        log_line(f"the forecasts are sealed and reported, but not tracked; the next run tries again. {error}")
    if not new_rows:
        log_line(f"nothing new: the forecasts for {report.target_session:%Y-%m-%d} are sealed already")
    try:
        publish(report, paths)
    except (*PREFECT_ERRORS, TimeoutError) as error:
        log_line(f"the forecasts are sealed and reported, but not shown in Prefect: {error}")
    headline = report.verdict.headline if report.verdict else ""
    decays = [(decay.key, decay.sentence) for decay in report.decay if decay.is_news]
    tell(run, lambda: [*list_news(run, record, headline), *describe_decay(run, decays)])
    show_site(run, report)  # the pages of thousands of symbols take minutes, and nothing above needs them
    copy_reports(run)
    return Evening(report, paths, new_rows, settled)


def _forecast_tonight(
    run: Run, price_status: PriceStatus, record: UniverseRecord, champions: Champions, inputs: Inputs
) -> pd.DataFrame:
    """Return tonight's sealed rows; a model forecasts only if a member lacks a row of a configured output.

    Only the lacking rows are sealed: a closure or a symbol's new name since would give the others another key.
    """
    standing = record.forecasts(price_status.as_of).assign(is_new=False)
    lacking = _find_lacking(
        run, standing, {*run.universe.members(price_status.as_of)} - {*price_status.missing}
    )
    if not lacking:
        return standing
    champion = _choose_champion(run, price_status, champions)
    require_named_code(run, champion.code, champion.directory)
    rows = forecast_session(run, price_status.as_of, price_status, champion, inputs)
    if rows.empty:
        series = champion.feature_set(run).context
        known = describe_context(run, price_status.as_of, price_status.seq, series, champion.lookback)
        raise NextdayError(
            f"No constituent of {run.name!r} has a complete window{describe_opens(champion)} on "
            f"{price_status.as_of:%Y-%m-%d}" + (f". {known}" if known else ""),
            where=run.store.place,
            fix="the champion reads many sessions without a gap; `nextday update` lists what is missing"
            + ('; [context] missing = "carry" bridges 5 sessions, after `nextday retrain`' if series else ""),
        )
    is_lacking = [key in lacking for key in _list_keys(rows)]
    if not any(is_lacking):
        return standing
    new = seal(run, record, rows[is_lacking], price_status.as_of, price_status.observed_at)
    whole = pd.concat([standing, new]) if len(standing) else new
    return whole.sort_values(["symbol", "target_session"], ignore_index=True)


def _choose_champion(run: Run, price_status: PriceStatus, champions: Champions) -> Champion:
    """Return the model that forecasts tonight: the champion, or after a clock set back the one that was known then."""
    champion = champions.serving()
    if champion is None:
        log_line("there is no champion yet: training one")
        made = make_champion(run, price_status)
        return_freed_memory()
        return champions.add(made)
    if champion.trained_through <= price_status.as_of:
        return champion
    known_then = champions.known_at(price_status.as_of)
    if known_then is None:
        raise InputError(
            f"No model was known on {price_status.as_of:%Y-%m-%d}: all were trained on later sessions",
            where="--now",
            fix="leave --now away, or simulate a past session in a separate workspace (--home)",
        )
    return known_then
