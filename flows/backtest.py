"""The backtest: the procedure as it would have been run through history, scored fit after fit."""

import json
import shutil
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pandas as pd
from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.context import FlowRunContext

from flows.evening.model_card import describe_custom_model
from flows.prices.update import PriceStatus, update_prices
from flows.runtime.context import Run, open_run
from flows.runtime.custom_code import describe_missing_audit, digest_code_of
from flows.runtime.progress import PREFECT_ERRORS, log_line
from flows.runtime.tasks import PATIENCE, open_locked_run, task
from flows.runtime.tracking import run_tags, tracking
from flows.training.champion import count_trial
from flows.training.compute import open_compute
from flows.training.evaluation import range_table
from flows.training.history import History, make_sequences
from flows.training.scoring import score_longer_horizons, score_procedure
from flows.training.walk_forward import BEST_BEFORE, fits_at_once, walk_history
from pipeline.config import digest
from pipeline.errors import NextdayError, StoreError
from pipeline.evaluation.horizons import select_horizon
from pipeline.evaluation.robustness import RobustnessTests, examine
from pipeline.evaluation.subgroups import score_groups, trailing_volatility
from pipeline.evaluation.verdict import Verdict
from pipeline.forecasting.folds import Fold, walk_folds
from pipeline.forecasting.walk_forward import Walk
from pipeline.formatting import count
from pipeline.report.backtest_markdown import backtest_markdown
from pipeline.report.backtest_page import render_backtest
from pipeline.report.backtest_report import (
    FORECAST_COLUMNS,
    Backtest,
    groups_csv,
    place,
    scores_csv,
    write_forecasts,
)
from pipeline.report.trading_tables import list_numbers
from pipeline.statistics.sharpe import deflate_by_trials
from pipeline.storage.csv_output import format_csv
from pipeline.storage.files import hold_lock, whole_file, write_text
from pipeline.tracking.mlflow_metrics import measure_trading
from pipeline.tracking.trials import TrialBook, count_settings, list_sharpes
from pipeline.trading.fills import read_fills
from pipeline.trading.view import TradingView, view_trading

__all__ = ["Backtested", "backtest"]


@dataclass(frozen=True, eq=False)
class Backtested:
    """A backtest and where its files lie."""

    backtest: Backtest
    paths: dict[str, Path]


@flow(name="backtest", persist_result=False)
def backtest(
    config: Path | None = None,
    home: Path | None = None,
    now: datetime | None = None,
    out: Path | None = None,
) -> Backtested:
    """Walk through history, fitting the procedure anew as time goes on, and score what it would have said.

    Evenings may run meanwhile. An interrupted walk goes on at the first training that is not done.

    Args:
        config: The configuration file.
        home: The workspace.
        now: The clock; default: the wall clock.
        out: The folder for the report; default: reports/<universe>/backtest of the workspace.

    Raises:
        InputError: there is too little history for a walk.
        WorkspaceBusyError: another backtest of the universe is at work.
    """
    run = open_run(config, home, now)
    lock = run.workspace.home / "locks" / f"{run.name}.backtest.lock"
    with hold_lock(lock, 0, f"a backtest of the universe {run.name!r}"):
        with open_locked_run(config, home, now) as run:
            market = _go_on(run, update_prices(run))
            known = make_sequences(run, market.as_of, market.seq)
        paths = place(out or run.workspace.reports / run.name / "backtest")
        made = _make(run, market, known)
        _write(made, paths)
        with run.workspace.locked(run.name, timeout=PATIENCE, tell=log_line):
            _track(run, made, paths)
        shutil.rmtree(_kept(run), ignore_errors=True)  # it served an interrupted walk, and this one is whole
        _publish(made)
    return Backtested(made, paths)


def _kept(run: Run) -> Path:
    """Return where an interrupted walk left what it had done."""
    return run.workspace.cache / "backtest" / run.name


def _go_on(run: Run, market: PriceStatus) -> PriceStatus:
    """Return the prices that an interrupted walk of these settings began with; else those of now, for one to come."""
    note, settings = _kept(run) / "began.json", _digest(run)
    try:
        began = json.loads(note.read_text(encoding="utf-8"))
        as_of, seq = pd.Timestamp(began["as_of"]), int(began["data_version"])
        if began["settings"] == settings and as_of <= market.as_of and seq <= market.seq:
            log_line(f"going on with the walk on the prices through {as_of:%Y-%m-%d}")
            return replace(market, as_of=as_of, seq=seq)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    facts = {"settings": settings, "as_of": f"{market.as_of:%Y-%m-%d}", "data_version": market.seq}
    write_text(note, json.dumps(facts) + "\n")
    return market


def _make(run: Run, market: PriceStatus, known: History) -> Backtest:
    settings = run.config
    folds = walk_folds(known.sequences, settings.evaluation, settings.training, settings.backtest)
    with open_compute(run, known.sequences, fits_at_once(run, folds)) as workshop:
        walk, own, epochs = walk_history(run, known, folds, replace(workshop, finished=_kept(run)))
    scores, verdict = score_procedure(run, walk, BEST_BEFORE)
    farther = score_longer_horizons(run, walk, BEST_BEFORE) if len(settings.labels.horizons) > 1 else None
    trading = _trade(run, known, walk, verdict)
    sharpe = trading.deflated.sharpe if trading.deflated else None
    count_trial(run, market, walk.test, study="backtest", digest=_digest_trial(run), sharpe=sharpe)
    return Backtest(
        universe=run.name,
        calendar=run.calendar.name,
        as_of=known.as_of,
        made_at=run.clock(),
        forecasts=_forecasts(run, known, own),
        test_rows=walk.test,
        scores=pd.concat([scores, farther[0]], ignore_index=True) if farther else scores,
        verdict=verdict,
        further=farther[1] if farther else {},
        ranges=range_table(known, {f"fold {number}": fold for number, fold in enumerate(folds, start=1)}),
        epochs=epochs,
        groups=_score_groups(run, known, walk, verdict),
        tests=_test_further(run, walk, verdict),
        trading=_allow_for_trials(run, trading),
        method=_describe(run, known, folds, walk),
        tried=_tried(run),
        unaudited=describe_missing_audit(run),
        bias=run.universe.bias,
        notes=_notes(run, market),
    )


@task("score groups")
def _score_groups(run: Run, known: History, walk: Walk, verdict: Verdict) -> pd.DataFrame:
    return score_groups(
        select_horizon(walk.test),
        model=verdict.model,
        baseline=verdict.baseline,
        volatility=trailing_volatility(known.panel),
        seed=run.config.training.seed,
    )


@task("test further")
def _test_further(run: Run, walk: Walk, verdict: Verdict) -> RobustnessTests:
    found = examine(
        select_horizon(walk.test),
        model=verdict.model,
        baseline=verdict.baseline,
        seed=run.config.training.seed,
    )
    log_line(found.size.sentence)
    return found


@task("trade")
def _trade(run: Run, known: History, walk: Walk, verdict: Verdict) -> TradingView:
    """Return what the forecasts would have earned, as if nothing else had been tried."""
    view = view_trading(
        select_horizon(walk.test),
        read_fills(known.panel),
        run.config.trading,
        model=verdict.model,
        baseline=verdict.baseline,
        trials=1,
        seed=run.config.training.seed,
    )
    log_line(view.sentence)
    return view


def _allow_for_trials(run: Run, view: TradingView) -> TradingView:
    """Hold the Sharpe ratio against the luck of all settings that were tried; this one is written down among them."""
    if view.deflated is None:
        return view
    try:
        trials = TrialBook(run.workspace.trials(run.name)).read()
    except StoreError:  # what is not known cannot be allowed for
        return replace(view, deflated=None)
    settings = max(count_settings(trials).settings, 1)
    return replace(
        view, deflated=deflate_by_trials(view.deflated, trials=settings, ratios=list_sharpes(trials))
    )


def _count_searched(run: Run) -> int:
    try:
        return count_settings(TrialBook(run.workspace.trials(run.name)).read()).searched
    except StoreError:  # the report says that it is not known
        return 0


def _forecasts(run: Run, known: History, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the network's rows as FORECAST_COLUMNS."""
    session = known.sequences.sessions.get_indexer(pd.DatetimeIndex(rows["as_of"]))
    symbol = pd.Index(known.panel.symbols).get_indexer(pd.Index(rows["symbol"]))
    begins = len(known.panel.sessions) - len(known.sequences.sessions)
    versions = {fold: _version(run, known, int(fold)) for fold in rows["fold"].unique()}
    return rows.assign(
        model_version=rows["fold"].map(versions),
        issued_at=pd.Timestamp(run.clock()),
        last_close=known.panel.last_close[begins + session, symbol],
        data_version=known.seq,
        config_digest=_digest(run),
        role="champion",
        kind="backtest",
    )[FORECAST_COLUMNS].reset_index(drop=True)


def _digest(run: Run) -> str:
    """Return the digest of what decides a backtest: the settings of the forecasts, and those of the walk."""
    walk = {"backtest": run.config.backtest.model_dump(mode="json"), "code": digest_code_of(run)}
    return digest(run.resolved | walk)


def _digest_trial(run: Run) -> str:
    """Return what a backtest counts as: other costs or another threshold, looked at, are another setting tried."""
    return digest({"walk": _digest(run), "trading": run.config.trading.model_dump(mode="json")})


def _version(run: Run, known: History, fold: int) -> str:
    """Return what a fold's fit is called: equal settings, prices and folds have equal ones, and no model is kept."""
    return digest({"backtest": _digest(run), "data": known.seq, "as_of": str(known.as_of), "fold": fold})


def _describe(run: Run, known: History, folds: list[Fold], walk_made: Walk) -> dict[str, str]:
    model, training, walk = run.config.model, run.config.training, run.config.backtest
    by_dates = run.config.evaluation.test_end is not None
    size = f"{count(model.members, 'member')}, lookback {model.lookback}"
    layers = count(model.layers, "layer")
    made = {"network": f"{model.kind} of {layers} of {model.units} units, {size}, trained {training.mode}"}
    if model.is_own:
        made = {"model": f"{describe_custom_model(model.kind, model.options)}, {size}"}
    return {
        **made,
        "features": f"{run.config.features.set} ({len(known.sequences.features)} columns)",
        "walk": "a single fit, cut by dates"
        if by_dates
        else f"{walk.window}, the first fit on {walk.train_sessions} sessions, a new one every {walk.refit_sessions}",
        "best before": _tell_chosen(walk_made),
        "warm start": _tell_starts(run, folds),
        "seeds": f"{training.seed} to {training.seed + model.members - 1}",
        "settings": _digest(run),
        "data version": str(known.seq),
    }


def _tell_chosen(walk: Walk) -> str:
    """Say in which folds which baseline was best before the test."""
    rows = select_horizon(walk.test)
    chosen = rows[rows["model"] == BEST_BEFORE].groupby("chosen")["fold"].unique()
    return "; ".join(f"{name} in fold {', '.join(map(str, sorted(folds)))}" for name, folds in chosen.items())


def _tell_starts(run: Run, folds: list[Fold]) -> str:
    if not run.config.training.warm_start:
        return "none"
    may = sum(former.stop.stop <= fold.train.stop for former, fold in pairwise(folds))
    return f"{may} of {count(len(folds) - 1, 'further fit')} went on from the one before"


def _tried(run: Run) -> str:
    try:
        return count_settings(TrialBook(run.workspace.trials(run.name)).read()).sentence
    except StoreError as error:
        return f"How many settings were tried is not known. {error.what}."


def _notes(run: Run, market: PriceStatus) -> list[str]:
    notes = [
        "The forecasts of a backtest lie in this folder alone: they never enter the ledger, and are no record.",
        f"The prices are those that were known when this was made (data version {market.seq}): a source that has "
        "corrected a bar since is believed, so this is history as it is told now.",
    ]
    if searched := _count_searched(run):
        notes.append(
            f"{count(searched, 'setting')} tried by a search on slices of this history: where this walk scores those "
            "sessions, settings that a search proposed have seen them."
        )
    if market.missing:
        notes.append(f"Without a bar on the last session: {', '.join(sorted(market.missing))}.")
    return notes


@task("report")
def _write(made: Backtest, paths: dict[str, Path]) -> None:
    with whole_file(paths["forecasts.csv"]) as file:
        write_forecasts(file, made)
    write_text(paths["scores.csv"], scores_csv(made))
    write_text(paths["groups.csv"], groups_csv(made))
    write_text(paths["trading.csv"], format_csv(list_numbers(made.trading)))
    write_text(paths["report.html"], render_backtest(made))  # last: where it lies, the others do
    log_line(f"report: {paths['report.html']}")


@task("track")
def _track(run: Run, made: Backtest, paths: dict[str, Path]) -> None:
    try:
        tracking(run).record_backtest(
            universe=run.name,
            run_name=f"{run.name} backtest through {made.as_of:%Y-%m-%d}",
            config=run.resolved["settings"]
            | {name: getattr(run.config, name).model_dump(mode="json") for name in ("backtest", "trading")},
            tags=run_tags(run)
            | {
                "config_digest": _digest(run),
                "trial_digest": _digest_trial(run),
                "data_version": made.method["data version"],
                "verdict": made.verdict.finding,
            },
            epochs=made.epochs,
            scores=made.scores,
            trading=measure_trading(
                list_numbers(made.trading),
                {"model": made.verdict.model, "baseline": made.verdict.baseline},
            ),
            artifacts=list(paths.values()),
        )
    except NextdayError as error:
        log_line(f"the backtest is reported, but not tracked; running it again tries again. {error}")


def _publish(made: Backtest) -> None:
    if FlowRunContext.get() is None:
        return
    try:
        create_markdown_artifact(
            backtest_markdown(made),
            key=f"nextday-{made.universe.replace('_', '-')}-backtest",
            description=f"backtest of {made.universe}: {made.verdict.finding}",
        )
    except PREFECT_ERRORS as error:
        log_line(f"the backtest is reported, but Prefect does not show it: {error}")
