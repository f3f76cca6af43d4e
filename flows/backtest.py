"""The backtest flow: refit and forecast through history (walk-forward), score the forecasts and trade them."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pandas as pd
from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.context import FlowRunContext

from flows.evening.model_card import describe_classifier, describe_custom_model
from flows.prices.update import PriceStatus, update_prices
from flows.runtime.context import Run, open_run
from flows.runtime.custom_code import describe_missing_audit, digest_code_of
from flows.runtime.progress import PREFECT_ERRORS, log_line
from flows.runtime.tasks import PATIENCE, open_locked_run, task
from flows.runtime.tracking import own_tracking, run_tags
from flows.training.compute import open_compute, require_gpu
from flows.training.evaluation import range_table
from flows.training.history import History, make_sequences
from flows.training.scoring import score_further_outputs, score_procedure
from flows.training.trials import count_trial, describe_trials
from flows.training.walk_forward import BEST_BEFORE, fits_at_once, walk_history
from pipeline.config import digest
from pipeline.errors import NextdayError, StoreError
from pipeline.evaluation.robustness import RobustnessTests, run_robustness_tests
from pipeline.evaluation.subgroups import score_groups, trailing_volatility
from pipeline.evaluation.verdict import Verdict, list_candidates
from pipeline.forecasting.folds import Fold, walk_folds
from pipeline.forecasting.walk_forward import Walk
from pipeline.formatting import count
from pipeline.outputs import NEXT, Output, name_key, select_main, select_output
from pipeline.report.backtest_markdown import backtest_markdown
from pipeline.report.backtest_page import render_backtest
from pipeline.report.backtest_report import (
    FORECAST_COLUMNS,
    Backtest,
    backtest_paths,
    groups_csv,
    list_all_numbers,
    scores_csv,
    write_forecasts,
)
from pipeline.report.trading_tables import list_numbers
from pipeline.statistics.sharpe import deflate_by_trials
from pipeline.storage.backtest_folders import link_newest, name_backtest, place_backtest
from pipeline.storage.csv_output import format_csv
from pipeline.storage.files import atomic_write, hold_lock, write_text
from pipeline.tracking.mlflow_metrics import Measured, measure_trading
from pipeline.tracking.trials import TrialBook, count_settings, list_sharpes
from pipeline.trading.fills import read_fills
from pipeline.trading.view import TradingView, view_trading

__all__ = ["Backtested", "backtest"]


@dataclass(frozen=True, eq=False)
class Backtested:
    """A backtest and the paths of its files."""

    backtest: Backtest
    paths: dict[str, Path]


@flow(name="backtest", persist_result=False)
def backtest(
    config: Path | None = None,
    home: Path | None = None,
    now: datetime | None = None,
    out: Path | None = None,
) -> Backtested:
    """Run a walk-forward backtest: refit the procedure through history and score the forecasts after each fit.

    Nightly runs may go on meanwhile. An interrupted walk resumes at the first fit that is not finished yet.

    Args:
        config: The configuration file.
        home: The workspace.
        now: The clock; default: the wall clock.
        out: The folder for the report; default: one of its own below reports/<universe>/backtests of the workspace, to
            which reports/<universe>/backtest leads.

    Raises:
        InputError: there is too little history for a walk.
        WorkspaceBusyError: another backtest of the universe is running.
    """
    run = require_gpu(open_run(config, home, now))
    lock = run.workspace.home / "locks" / f"{run.name}.backtest.lock"
    with hold_lock(lock, 0, f"a backtest of the universe {run.name!r}"):
        with open_locked_run(config, home, now) as run:
            price_status = _resume_prices(run, update_prices(run))
            known = make_sequences(run, price_status.as_of, price_status.seq)
        made = _run_backtest(run, price_status, known)
        folder = out or place_backtest(run.workspace.reports / run.name, _name(run, made))
        paths = backtest_paths(folder)
        _write(made, paths)
        if out is None:
            link_newest(run.workspace.reports / run.name, folder)
        with run.workspace.locked(run.name, timeout=PATIENCE, log=log_line):
            _track(run, made, paths)
        shutil.rmtree(_checkpoints(run), ignore_errors=True)  # only an interrupted walk needs them
        _publish(made)
    return Backtested(made, paths)


def _name(run: Run, made: Backtest) -> str:
    """Return the name of the folder: only the same settings on the same prices give the same digest."""
    facts = {"trial": _digest_trial(run), "data": made.method["data version"], "as_of": str(made.as_of)}
    return name_backtest(made.made_at, made.model, digest(facts))


def _checkpoints(run: Run) -> Path:
    """Return the folder with the finished fits of an interrupted walk."""
    return run.workspace.cache / "backtest" / run.name


def _resume_prices(run: Run, price_status: PriceStatus) -> PriceStatus:
    """Return the price status that an interrupted walk of these settings started with; else note and return today's."""
    note, settings = _checkpoints(run) / "began.json", _digest(run)
    try:
        began = json.loads(note.read_text(encoding="utf-8"))
        as_of, seq = pd.Timestamp(began["as_of"]), int(began["data_version"])
        if began["settings"] == settings and as_of <= price_status.as_of and seq <= price_status.seq:
            log_line(f"resuming the walk on the prices through {as_of:%Y-%m-%d}")
            return replace(price_status, as_of=as_of, seq=seq)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    facts = {
        "settings": settings,
        "as_of": f"{price_status.as_of:%Y-%m-%d}",
        "data_version": price_status.seq,
    }
    write_text(note, json.dumps(facts) + "\n")
    return price_status


def _run_backtest(run: Run, price_status: PriceStatus, known: History) -> Backtest:
    settings = run.config
    folds = walk_folds(known.sequences, settings.evaluation, settings.training, settings.backtest)
    with open_compute(run, known.sequences, fits_at_once(run, folds)) as compute:
        walk, epochs = walk_history(run, known, folds, replace(compute, checkpoints=_checkpoints(run)))
    scores, verdict = score_procedure(run, walk, BEST_BEFORE)
    longer = score_further_outputs(run, walk, BEST_BEFORE) if len(known.sequences.outputs) > 1 else None
    trading = _trade(run, known, select_main(walk.test), verdict)
    sharpe = trading.deflated.sharpe if trading.deflated else None
    count_trial(run, price_status, walk.test, study="backtest", digest=_digest_trial(run), sharpe=sharpe)
    return Backtest(
        universe=run.name,
        calendar=run.calendar.name,
        as_of=known.as_of,
        made_at=run.clock(),
        forecasts=_make_forecasts(run, known, walk.own),
        test_rows=walk.test,
        scores=pd.concat([scores, longer[0]], ignore_index=True) if longer else scores,
        verdict=verdict,
        further=longer[1] if longer else {},
        ranges=range_table(
            run, known, {f"fold {number}": fold for number, fold in enumerate(folds, start=1)}
        ),
        epochs=epochs,
        groups=_score_groups(run, known, walk, verdict),
        tests=_test_robustness(run, walk, verdict),
        trading=_deflate_sharpe(run, trading),
        further_trading=_trade_further(run, known, walk, longer[1] if longer else {}),
        method=_describe_method(run, known, folds, walk),
        tried=describe_trials(run),
        unaudited=describe_missing_audit(run),
        bias=run.universe.bias,
        notes=_notes(run, price_status),
    )


@task("score groups")
def _score_groups(run: Run, known: History, walk: Walk, verdict: Verdict) -> pd.DataFrame:
    return score_groups(
        select_main(walk.test),
        model=verdict.model,
        baseline=verdict.baseline,
        volatility=trailing_volatility(known.panel),
        universe=run.universe,
        seed=run.config.training.seed,
    )


@task("test robustness")
def _test_robustness(run: Run, walk: Walk, verdict: Verdict) -> RobustnessTests:
    rows = select_main(walk.test)
    tests = run_robustness_tests(
        rows,
        model=verdict.model,
        baseline=verdict.baseline,
        candidates=list_candidates(rows),
        seed=run.config.training.seed,
    )
    log_line(tests.size.sentence)
    return tests


def _trade_further(
    run: Run, known: History, walk: Walk, further: Mapping[Output, Verdict]
) -> dict[Output, TradingView]:
    """Return the trading results of the further outputs that orders at the next open can reach."""
    traded = [each for each in further if each.part != "overnight" and each.horizon == NEXT]
    return {each: _trade(run, known, select_output(walk.test, each), further[each]) for each in traded}


@task("trade")
def _trade(run: Run, known: History, rows: pd.DataFrame, verdict: Verdict) -> TradingView:
    """Return the trading results of the forecasts, with the Sharpe ratio not yet deflated by the trials."""
    view = view_trading(
        rows,
        read_fills(known.panel),
        run.config.trading,
        model=verdict.model,
        baseline=verdict.baseline,
        trials=1,
        seed=run.config.training.seed,
    )
    log_line(view.sentence)
    return view


def _deflate_sharpe(run: Run, view: TradingView) -> TradingView:
    """Return the view with its Sharpe ratio deflated by all settings tried, including this one, already recorded."""
    if view.deflated is None:
        return view
    try:
        trials = TrialBook(run.workspace.trials(run.name)).read()
    except StoreError:  # an unknown number of trials cannot be allowed for
        return replace(view, deflated=None)
    settings = max(count_settings(trials).settings, 1)
    return replace(
        view, deflated=deflate_by_trials(view.deflated, trials=settings, ratios=list_sharpes(trials))
    )


def _count_searched(run: Run) -> int:
    try:
        return count_settings(TrialBook(run.workspace.trials(run.name)).read()).searched
    except StoreError:  # describe_trials reports it
        return 0


def _make_forecasts(run: Run, known: History, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the model's test rows with the columns FORECAST_COLUMNS."""
    session = known.sequences.sessions.get_indexer(pd.DatetimeIndex(rows["as_of"]))
    symbol = pd.Index(known.panel.symbols).get_indexer(pd.Index(rows["symbol"]))
    offset = len(known.panel.sessions) - len(known.sequences.sessions)
    versions = {fold: _version(run, known, int(fold)) for fold in rows["fold"].unique()}
    return rows.assign(
        model_version=rows["fold"].map(versions),
        issued_at=pd.Timestamp(run.clock()),
        last_close=known.panel.last_close[offset + session, symbol],
        data_version=known.seq,
        config_digest=_digest(run),
        role="champion",
        kind="backtest",
    )[FORECAST_COLUMNS].reset_index(drop=True)


def _digest(run: Run) -> str:
    """Return the digest of the settings of a backtest: of the forecasts, the walk and the custom code."""
    walk = {"backtest": run.config.backtest.model_dump(mode="json"), "code": digest_code_of(run)}
    return digest(run.resolved | walk)


def _digest_trial(run: Run) -> str:
    """Return the digest under which a backtest counts as a trial: other costs or thresholds are another trial."""
    later = (
        set() if any(each.is_relative for each in run.config.labels.outputs) else {"long_short", "borrow_bps"}
    )
    return digest(
        {"walk": _digest(run), "trading": run.config.trading.model_dump(mode="json", exclude=later)}
    )


def _version(run: Run, known: History, fold: int) -> str:
    """Return the model version of a fold's fit: a digest of settings, prices and fold, as no model is saved."""
    return digest({"backtest": _digest(run), "data": known.seq, "as_of": str(known.as_of), "fold": fold})


def _describe_method(run: Run, known: History, folds: list[Fold], walked: Walk) -> dict[str, str]:
    model, training, walk = run.config.model, run.config.training, run.config.backtest
    by_dates = run.config.evaluation.test_end is not None
    size = f"{count(model.members, 'member')}, lookback {model.lookback}"
    layers = count(model.layers, "layer")
    shape = "" if model.kind == "linear" else f" of {layers} of {model.units} units"
    described = {"network": f"{model.kind}{shape}, {size}, trained {training.mode}"}
    if model.is_classifier:
        described = {"model": f"{describe_classifier(model.kind)}, lookback {model.lookback}"}
    if model.is_custom:
        described = {"model": f"{describe_custom_model(model.kind, model.options)}, {size}"}
    features = run.feature_set(outputs=known.sequences.outputs)
    return {
        **described,
        "features": f"{features.label} ({len(features.columns)} columns)",
        "walk": "a single fit, split by dates"
        if by_dates
        else f"{walk.window}, the first fit on {walk.train_sessions} sessions, refit every {walk.refit_sessions}",
        "prior-best baseline": _describe_baselines(walked),
        "warm start": _describe_starts(run, folds),
        "seeds": f"{training.seed} to {training.seed + model.members - 1}",
        "settings": _digest(run),
        "data version": str(known.seq),
    }


def _describe_baselines(walk: Walk) -> str:
    """Return which baseline was the prior-best one in which folds."""
    rows = select_main(walk.test)
    chosen = rows[rows["model"] == BEST_BEFORE].groupby("chosen")["fold"].unique()
    return "; ".join(f"{name} in fold {', '.join(map(str, sorted(folds)))}" for name, folds in chosen.items())


def _describe_starts(run: Run, folds: list[Fold]) -> str:
    if not run.config.training.warm_start:
        return "none"
    may = sum(former.stop.stop <= fold.train.stop for former, fold in pairwise(folds))
    return f"{may} of {count(len(folds) - 1, 'further fit')} started from the fit before"


def _notes(run: Run, price_status: PriceStatus) -> list[str]:
    notes = [
        "The forecasts of a backtest are stored in this folder only: they never enter the ledger, and are no track "
        "record.",
        f"The prices are those known when this backtest was made (data version {price_status.seq}), including all "
        "corrections by the source up to then: they are revised history, not what was known at the time.",
    ]
    if searched := _count_searched(run):
        notes.append(
            f"{count(searched, 'setting')} tried by a search on slices of this history: where this walk scores those "
            "sessions, settings proposed by a search were selected on them."
        )
    if price_status.missing:
        notes.append(f"Without a bar on the last session: {', '.join(sorted(price_status.missing))}.")
    return notes


@task("write report")
def _write(made: Backtest, paths: dict[str, Path]) -> None:
    with atomic_write(paths["forecasts.csv"]) as file:
        write_forecasts(file, made)
    write_text(paths["scores.csv"], scores_csv(made))
    write_text(paths["groups.csv"], groups_csv(made))
    write_text(paths["trading.csv"], format_csv(list_all_numbers(made)))
    write_text(paths["report.html"], render_backtest(made))  # last: if it exists, the others do
    log_line(f"report: {paths['report.html']}")


@task("track")
def _track(run: Run, made: Backtest, paths: dict[str, Path]) -> None:
    try:
        own_tracking(run).record_backtest(
            universe=run.name,
            run_name=f"{run.name} backtest through {made.as_of:%Y-%m-%d}",
            config=run.resolved["settings"]
            | {name: getattr(run.config, name).model_dump(mode="json") for name in ("backtest", "trading")},
            tags=run_tags(run)
            | {
                "config_digest": _digest(run),
                "trial_digest": _digest_trial(run),
                "data_version": made.method["data version"],
            }
            | made.verdict.tags
            | {f"verdict_{name_key(output)}": each.title for output, each in made.further.items()},
            epochs=made.epochs,
            scores=made.scores,
            scored_model=made.verdict.model,
            trading=_measure_trading(made),
            artifacts=list(paths.values()),
        )
    except NextdayError as error:
        log_line(f"the report is written, but the backtest is not tracked; running it again retries. {error}")


def _measure_trading(made: Backtest) -> list[Measured]:
    names = {"model": made.verdict.model, "baseline": made.verdict.baseline}
    measured = measure_trading(list_numbers(made.trading), names)
    for output, view in made.further_trading.items():
        baseline = made.further[output].baseline if output in made.further else made.verdict.baseline
        measured += measure_trading(list_numbers(view), names | {"baseline": baseline}, name_key(output))
    return measured


def _publish(made: Backtest) -> None:
    if FlowRunContext.get() is None:
        return
    try:
        create_markdown_artifact(
            backtest_markdown(made),
            key=f"nextday-{made.universe.replace('_', '-')}-backtest",
            description=f"backtest of {made.universe}: {made.verdict.title}",
        )
    except PREFECT_ERRORS as error:
        log_line(f"the report is written, but not published in Prefect: {error}")
