"""The audit of the configured procedure: run every leakage check, and save the results in the workspace."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, cast

import numpy as np
import pandas as pd

from flows.evening.forecasting import replay
from flows.runtime.context import Run
from flows.runtime.custom_code import digest_audited, find_changed, list_code
from flows.runtime.progress import bar
from flows.training.compute import open_compute
from flows.training.history import keep_learnable, read_context
from flows.training.model_factory import make_baselines, make_recipe
from flows.training.per_symbol import symbols_named
from models.classifiers.classifier import ClassifierModel
from models.ensembles.custom_ensemble import CustomModel
from models.ensembles.model_files import model_version, read_metadata
from pipeline.audit.feature_checks import (
    FeatureAudit,
    check_changed,
    check_cut_off,
    check_labels,
    check_order,
    check_reach,
)
from pipeline.audit.leakage_check import Check, CheckResult, leakage_check
from pipeline.audit.procedure_checks import (
    SAME,
    Procedure,
    check_changed_rest,
    check_fewer_sessions,
    check_folds,
    check_later_sessions,
    check_scale,
    check_seed,
    check_shuffled_labels,
    check_symbol_order,
)
from pipeline.audit.record import Audit, save_audit
from pipeline.errors import InputError
from pipeline.features.sequences import Sequences
from pipeline.forecasting.folds import Fold, final_fold, scoring_fold
from pipeline.forecasting.model import FittedEnsemble
from pipeline.ledger.known_head import ledger_exists
from pipeline.ledger.ledger import Ledger
from pipeline.prices.bar_block import Block
from pipeline.sources.conformance import ConformanceError, check_source
from pipeline.sources.custom import CustomSource

__all__ = ["AuditInput", "audit", "gather", "open_procedure", "run_checks"]

_EPOCHS, _LEARNING_RATE = 3, 0.01
"""Of a quick audit: enough for the model to learn something."""

_SYMBOLS: Final = {"pooled": 40, "symbol": 4}
_TRAIN_SESSIONS: Final = 750
_CUTS: Final = {False: 6, True: 24}
"""Number of sessions at which history is cut off, by whether the audit is full."""


@dataclass(frozen=True, eq=False)
class AuditInput:
    """The run, data and folds that are audited.

    Attributes:
        run: As configured, or with a smaller model and fewer symbols.
        features: The bars, and the features computed from them.
        sequences: Of all of these bars.
        folds: The folds of the score and of the champion.
        seq: The price store's version.
        extent: A description of the model's size and of the part of history it is fitted on.
        cuts: Number of sessions at which history is cut off.
    """

    run: Run
    features: FeatureAudit
    sequences: Sequences
    folds: dict[str, Fold]
    seq: int
    extent: str
    cuts: int


def audit(run: Run, *, full: bool = False) -> Audit:
    """Run every leakage check on the configured procedure and save the results.

    Nothing is fetched except the queries to a custom source, and no score of the test range is revealed: the only
    one computed uses shuffled labels.

    Args:
        run: The run.
        full: Fit the model as configured, on all of history; default: a small one, on a part of it.

    Raises:
        InputError: there are no prices, or too few.
        ModelError: the model cannot be fitted at all.
    """
    code = list_code(run)  # as imported: code edited during the audit has not passed it
    subject = gather(run, full=full)
    result = Audit(
        universe=run.name,
        when=run.clock(),
        as_of=f"{subject.sequences.sessions[-1]:%Y-%m-%d}",
        data_version=subject.seq,
        config_digest=run.digest,
        procedure=digest_audited(run),
        code=code,
        extent=subject.extent,
        checks=(*run_checks(subject), *_check_sources(run, subject.features.block), check_replay(run)),
    )
    save_audit(run.workspace.audit(run.name), result)
    return result


def gather(run: Run, *, full: bool) -> AuditInput:
    """Read the prices that the audit needs, and make sequences and folds of them.

    Raises:
        InputError: there are no prices, or too few.
    """
    as_of = run.store.latest("session", run.last_closed, symbols=run.universe.symbols)
    if as_of is None:
        raise InputError(
            f"There are no prices of the universe {run.name!r}, which an audit needs",
            where=run.store.place,
            fix="`nextday update` fetches them",
        )
    seq, since = run.store.seq(), run.calendar.sessions[0] if full else _first_session(run, as_of)
    whole = run.store.read_block(run.calendar.sessions_between(since, as_of), run.universe.symbols, seq)
    chosen = run if full else _shrink(run, whole)
    block = _select_symbols(whole, chosen.universe.symbols).from_first_bar()
    read, context = run.feature_set(), None
    if read.context:
        context = read_context(run, block.sessions, seq, read.context)
    features = FeatureAudit(block, read, chosen.universe, run.config.labels.outputs, context)
    known = keep_learnable(features.make())
    fewer = run.feature_set(outputs=known.outputs)
    if fewer.columns != features.features.columns:  # a training chooses its columns by what can be learned
        features = FeatureAudit(block, fewer, chosen.universe, known.outputs, context)
        known = features.make()
    folds = {
        "score": scoring_fold(known, run.config.evaluation, run.config.training),
        "champion": final_fold(known, run.config.training),
    }
    return AuditInput(chosen, features, known, folds, seq, _describe_extent(run, chosen, known), _CUTS[full])


def run_checks(subject: AuditInput) -> list[Check]:
    """Run the leakage checks of features, folds, fit and forecasts."""
    with open_procedure(subject) as procedure:
        checks = _list_checks(subject, procedure, _with_known_labels(procedure))
        results = []
        with bar("audit", len(checks)) as advance:
            for check in checks:
                results.append(check())
                advance(f"{results[-1].name}: {results[-1].status}")
    return results


def _with_known_labels(procedure: Procedure) -> Procedure:
    """Return the procedure with labels that can be learned; a custom model is used without calibration.

    A custom model may not learn such labels; a calibration that gives it no weight would hide what it uses.
    """
    learned = procedure.with_known_labels()
    if isinstance(learned.model, CustomModel):
        return replace(learned, model=replace(learned.model, calibration=None))
    return learned


def _list_checks(subject: AuditInput, procedure: Procedure, learned: Procedure) -> list[Callable[[], Check]]:
    features, known, cuts, fitted = subject.features, subject.sequences, subject.cuts, learned.fitted()
    before_test = range(procedure.fold.train.start, procedure.fold.calibrate.stop)
    return [
        partial(check_cut_off, features, known, cuts),
        partial(check_changed, features, known, cuts),
        partial(check_reach, features, known, cuts),
        partial(check_order, features, known),
        partial(check_labels, known, before_test),
        partial(check_folds, subject.folds, known),
        partial(check_changed_rest, learned, fitted),
        partial(check_seed, learned, fitted),
        partial(check_later_sessions, learned, fitted, cuts),
        partial(check_fewer_sessions, learned, fitted, cuts),
        partial(check_symbol_order, learned, fitted, cast(FittedEnsemble, fitted).arranged),
        partial(check_shuffled_labels, procedure),
        *_scale_check(learned),
    ]


def _scale_check(learned: Procedure) -> list[Callable[[], Check]]:
    """Return the check of a network's scaling; none for a model without epochs: it could choose by the stop range."""
    if isinstance(learned.model, CustomModel | ClassifierModel):
        return []
    # The last check: it compiles its network again.
    return [partial(check_scale, replace(learned, model=_limit_to_one_epoch(learned.model)))]


def _check_sources(run: Run, block: Block) -> list[Check]:
    """Check the constituents' source, and a custom one that the context series alone have."""
    checks = [check_custom_source(run, block)]
    for part in run.context if run.config.context.has_custom_source else ():
        series, sessions = (
            run.of_context(part),
            part.calendar.sessions_between(block.sessions[0], block.sessions[-1]),
        )
        bars = series.store.read_block(sessions, series.universe.symbols)
        checks.append(check_custom_source(series, bars))
    return checks


@leakage_check(
    "own source: keeps its rules",
    "The source was queried for one symbol's bars as in a nightly run, again, from a later day on, and for an unknown "
    "symbol.",
)
def check_custom_source(run: Run, block: Block) -> CheckResult:
    """Check whether a custom source gives the same answer to the same query."""
    if not isinstance(run.source, CustomSource):
        return CheckResult("not applicable", "the source is built into nextday")
    column = int(block.has_bar.any(axis=0).argmax())
    sessions = block.sessions[block.has_bar[:, column]][-_QUERIED:]
    symbol, first, last = block.symbols[column], sessions[0], sessions[max(len(sessions) - 3, 0)]
    query = f"{symbol} from {first:%Y-%m-%d} to {last:%Y-%m-%d}"
    try:
        answer = check_source(run.source, symbol, start=first, end=last, now=run.clock())
    except ConformanceError as error:
        return CheckResult("failed", str(error))
    return CheckResult("passed", f"{query}: {len(answer.bars)} bars, the same each time")


_QUERIED: Final = 250


@leakage_check(
    "replay: the ledger's newest session",
    "The newest sealed forecasts were recomputed from their stored data version, model and settings.",
)
def check_replay(run: Run) -> CheckResult:
    """Check whether the newest sealed forecasts can be recomputed."""
    path = run.workspace.ledger
    rows = Ledger(path, read_only=True).forecasts(run.name) if ledger_exists(path) else pd.DataFrame()
    if rows.empty or not (rows["role"] == "champion").any():
        return CheckResult("not applicable", "the ledger has no forecast of this universe")
    newest = rows[rows["role"] == "champion"]
    newest = newest[newest["as_of"] == newest["as_of"].max()]
    as_of = newest["as_of"].iloc[0]
    models = [run.workspace.model(run.name, version) for version in newest["model_version"].unique()]
    if any(find_changed(run, read_metadata(model)["extra"]) for model in models):
        return CheckResult("not applicable", f"the rows of {as_of:%Y-%m-%d} were made with other custom code")
    replayed = replay(run, as_of)
    worst = replayed.rows["difference"].abs().max()
    evidence = f"{len(replayed.rows)} forecasts from {as_of:%Y-%m-%d}, largest difference {worst:.1e}"
    return CheckResult("passed" if replayed.is_same else "failed", evidence)


def _first_session(run: Run, as_of: pd.Timestamp) -> pd.Timestamp:
    """Return the first session that a quick audit reads: enough for all ranges, a short training set and a warm-up."""
    training, evaluation = run.config.training, run.config.evaluation
    end = as_of if evaluation.train_end is None else pd.Timestamp(evaluation.train_end)
    back = _TRAIN_SESSIONS + run.feature_set().reach + run.config.model.lookback
    if evaluation.train_end is None:
        back += training.stop_sessions + training.calibrate_sessions + evaluation.test_sessions
        back += 4 * max(run.config.labels.horizons)
    last = int(run.calendar.sessions.searchsorted(end))
    return run.calendar.sessions[max(last - back, 0)]


def _shrink(run: Run, block: Block) -> Run:
    """Return the run with one member, few epochs, and some of the symbols that have bars."""
    present = [block.symbols[column] for column in np.flatnonzero(block.has_bar.any(axis=0))]
    most = _SYMBOLS[run.config.model.scope]
    chosen = [present[int(at)] for at in np.unique(np.linspace(0, len(present) - 1, most).astype(int))]
    entries = run.universe.entries
    config, training = run.config, run.config.training
    small = {
        "model": config.model.model_copy(update={"members": 1}),
        "training": training.model_copy(
            update={
                "epochs": min(training.epochs, _EPOCHS),
                "learning_rate": max(training.learning_rate, _LEARNING_RATE),
            }
        ),
    }
    return replace(
        run,
        config=config.model_copy(update=small),
        universe=replace(run.universe, entries=entries[entries["symbol"].isin(chosen)]),
    )


def _select_symbols(block: Block, symbols: list[str]) -> Block:
    columns = [block.symbols.index(symbol) for symbol in symbols]
    return replace(block, values=block.values[:, columns], symbols=symbols)


def _describe_extent(run: Run, chosen: Run, known: Sequences) -> str:
    model, training = chosen.config.model, chosen.config.training
    first, last = known.sessions[0], known.sessions[-1]
    epochs = "" if not model.is_network else f"{training.epochs} of {run.config.training.epochs} epochs, "
    return (
        f"{model.members} of {run.config.model.members} members, {epochs}"
        f"{len(known.symbols)} of {len(run.universe.symbols)} symbols, {len(known.sessions):,} sessions from "
        f"{first:%Y-%m-%d} to {last:%Y-%m-%d}"
    )


@contextmanager
def open_procedure(subject: AuditInput) -> Iterator[Procedure]:
    """Open the configured model with all that it is fitted and judged on."""
    run, known, features = subject.run, subject.sequences, subject.features.features
    last_return = features.columns.index(features.last_return)
    baselines = make_baselines(run, features, known.outputs)
    with open_compute(run, known) as compute, symbols_named(known.symbols):
        yield Procedure(
            name=run.config.model.name,
            model=make_recipe(run, features, len(known.outputs), lambda epoch: None, compute),
            base_rate=baselines["base_rate"],
            sequences=known,
            fold=subject.folds["score"],
            calendar=run.calendar,
            dead_zone=run.config.labels.dead_zone,
            seed=run.config.training.seed,
            refit=run.config.training.refit,
            last_return=last_return,
            digest=partial(_digest_fit, run),
            tolerance=SAME if run.config.model.is_custom else 0.0,
        )


def _digest_fit(run: Run, fitted: Any) -> str:
    """Return the version that the fit would have as a saved model: the digest of its files."""
    with run.workspace.scratch() as folder:
        fitted.save(folder / "fit", extra={})
        return model_version(folder / "fit")


def _limit_to_one_epoch(model: Any) -> Any:
    return replace(model, training=replace(model.training, epochs=1))
