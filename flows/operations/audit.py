"""The audit of a procedure as it is configured: every tripwire laid, and what they caught kept in the workspace."""

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
from flows.training.model_factory import make_baselines, make_recipe
from flows.training.per_symbol import symbols_named
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
from pipeline.features.panel import build_panel
from pipeline.features.sequences import Sequences, label_returns
from pipeline.forecasting.folds import Fold, final_fold, scoring_fold
from pipeline.forecasting.model import FittedEnsemble
from pipeline.ledger.ledger import Ledger
from pipeline.prices.bar_block import Block
from pipeline.sources.conformance import ConformanceError, check_source
from pipeline.sources.custom import CustomSource

__all__ = ["Subject", "audit", "examine_subject", "gather"]

_EPOCHS, _LEARNING_RATE = 3, 0.01
"""Of a quick audit: fast enough to have learned something by then."""

_SYMBOLS: Final = {"pooled": 40, "symbol": 4}
_TRAIN_SESSIONS: Final = 750
_CUTS: Final = {False: 6, True: 24}
"""How many sessions are cut at, quick and full."""


@dataclass(frozen=True, eq=False)
class Subject:
    """What is audited.

    Attributes:
        run: As configured, or with a smaller model and fewer symbols.
        bench: The bars, and how sequences come of them.
        sequences: Of all of those bars.
        folds: How they are cut, to score and for the champion.
        seq: The price store's version.
        extent: What is fitted on how much of history, in words.
        cuts: How many sessions are cut at.
    """

    run: Run
    bench: FeatureAudit
    sequences: Sequences
    folds: dict[str, Fold]
    seq: int
    extent: str
    cuts: int


def audit(run: Run, *, full: bool = False) -> Audit:
    """Lay every tripwire to the configured procedure and keep what they caught.

    Nothing is fetched but what a source of the user's own is asked, and no score of the test is looked at: the one
    that is made stands on shuffled labels.

    Args:
        run: As configured.
        full: Fit the model as configured, on all of history; default: a small one, on a part of it.

    Raises:
        InputError: there are no prices, or too few.
        ModelError: the model cannot be fitted at all.
    """
    code = list_code(run)  # as it was imported: an edit during the audit is not what has passed
    subject = gather(run, full=full)
    found = Audit(
        universe=run.name,
        when=run.clock(),
        as_of=f"{subject.sequences.sessions[-1]:%Y-%m-%d}",
        data_version=subject.seq,
        config_digest=run.digest,
        procedure=digest_audited(run),
        code=code,
        extent=subject.extent,
        checks=(*examine_subject(subject), check_custom_source(run, subject.bench.block), check_replay(run)),
    )
    save_audit(run.workspace.audit(run.name), found)
    return found


def gather(run: Run, *, full: bool) -> Subject:
    """Read the prices, as many as are needed, and cut them.

    Raises:
        InputError: there are no prices, or too few.
    """
    as_of = run.store.latest("session", run.last_closed, symbols=run.universe.symbols)
    if as_of is None:
        raise InputError(
            f"There are no prices of the universe {run.name!r} to audit anything on",
            where=str(run.store.folder),
            fix="`nextday update` fetches them",
        )
    seq, since = run.store.seq(), run.calendar.sessions[0] if full else _since(run, as_of)
    whole = run.store.read_block(run.calendar.sessions_between(since, as_of), run.universe.symbols, seq)
    chosen = run if full else _smaller(run, whole)
    block = _only(whole, chosen.universe.symbols).from_first_bar()
    bench = FeatureAudit(block, run.feature_set(), chosen.universe, run.config.labels.horizons)
    known = bench.make()
    folds = {
        "score": scoring_fold(known, run.config.evaluation, run.config.training),
        "champion": final_fold(known, run.config.training),
    }
    return Subject(chosen, bench, known, folds, seq, _extent(run, chosen, known), _CUTS[full])


def examine_subject(subject: Subject) -> list[Check]:
    """Lay the tripwires of features, folds, fit and forecasts."""
    with _procedure(subject) as procedure:
        looks = _looks(subject, procedure, _learned(procedure))
        checks = []
        with bar("audit", len(looks)) as advance:
            for look in looks:
                checks.append(look())
                advance(f"{checks[-1].name}: {checks[-1].status}")
    return checks


def _learned(procedure: Procedure) -> Procedure:
    """Return the procedure on labels that can be learned; a model of the user's own says what it says by itself.

    It may not be one that learns such labels, and a calibration that gives it no credit would hide what it looks at.
    """
    learned = procedure.with_known_labels()
    if isinstance(learned.model, CustomModel):
        return replace(learned, model=replace(learned.model, calibration=None))
    return learned


def _looks(subject: Subject, procedure: Procedure, learned: Procedure) -> list[Callable[[], Check]]:
    bench, known, cuts, fitted = subject.bench, subject.sequences, subject.cuts, learned.fitted()
    before_test = range(procedure.fold.train.start, procedure.fold.calibrate.stop)
    return [
        partial(check_cut_off, bench, known, cuts),
        partial(check_changed, bench, known, cuts),
        partial(check_reach, bench, known, cuts),
        partial(check_order, bench, known),
        partial(check_labels, known, before_test),
        partial(check_folds, subject.folds, known),
        partial(check_changed_rest, learned, fitted),
        partial(check_seed, learned, fitted),
        partial(check_later_sessions, learned, fitted, cuts),
        partial(check_fewer_sessions, learned, fitted, cuts),
        partial(check_symbol_order, learned, fitted, cast(FittedEnsemble, fitted).arranged),
        partial(check_shuffled_labels, procedure),
        *_scale_looks(learned),
    ]


def _scale_looks(learned: Procedure) -> list[Callable[[], Check]]:
    """Return the look at a network's scale; a model of the user's own has no first epoch to look at."""
    if isinstance(learned.model, CustomModel):
        return []
    # The last one: it compiles its network anew.
    return [partial(check_scale, replace(learned, model=_of_one_epoch(learned.model)))]


@leakage_check(
    "own source: keeps its rules",
    "The source was asked for one symbol's bars as an evening asks, again, from a later day on, and for a symbol that "
    "nobody has.",
)
def check_custom_source(run: Run, block: Block) -> CheckResult:
    """Look whether a source of the user's own gives the same answer to the same question."""
    if not isinstance(run.source, CustomSource):
        return CheckResult("not applicable", "the source is nextday's own")
    column = int(block.has_bar.any(axis=0).argmax())
    sessions = block.sessions[block.has_bar[:, column]][-_ASKED:]
    symbol, first, last = block.symbols[column], sessions[0], sessions[max(len(sessions) - 3, 0)]
    asked = f"{symbol} from {first:%Y-%m-%d} to {last:%Y-%m-%d}"
    try:
        answer = check_source(run.source, symbol, start=first, end=last, now=run.clock())
    except ConformanceError as broken:
        return CheckResult("failed", str(broken))
    return CheckResult("passed", f"{asked}: {len(answer.bars)} bars, the same each time")


_ASKED: Final = 250


@leakage_check(
    "replay: the ledger's newest session",
    "The newest sealed forecasts were made again from the data, model and settings that they name.",
)
def check_replay(run: Run) -> CheckResult:
    """Look whether what was sealed can be made again."""
    path = run.workspace.ledger
    rows = Ledger(path, read_only=True).forecasts(run.name) if path.exists() else pd.DataFrame()
    if rows.empty or not (rows["role"] == "champion").any():
        return CheckResult("not applicable", "the ledger has no forecast of this universe")
    newest = rows[rows["role"] == "champion"]
    newest = newest[newest["as_of"] == newest["as_of"].max()]
    as_of = newest["as_of"].iloc[0]
    models = [run.workspace.model(run.name, version) for version in newest["model_version"].unique()]
    if any(find_changed(run, read_metadata(model)["extra"]) for model in models):
        return CheckResult(
            "not applicable", f"the rows of {as_of:%Y-%m-%d} were made with other code of your own"
        )
    made = replay(run, as_of)
    worst = made.rows["difference"].abs().max()
    told = f"{len(made.rows)} forecasts from {as_of:%Y-%m-%d}, largest difference {worst:.1e}"
    return CheckResult("passed" if made.is_same else "failed", told)


def _since(run: Run, as_of: pd.Timestamp) -> pd.Timestamp:
    """Return the first session that a quick audit reads: enough for every range, a short train and a warm-up."""
    training, evaluation = run.config.training, run.config.evaluation
    end = as_of if evaluation.train_end is None else pd.Timestamp(evaluation.train_end)
    back = _TRAIN_SESSIONS + run.feature_set().reach + run.config.model.lookback
    if evaluation.train_end is None:
        back += training.stop_sessions + training.calibrate_sessions + evaluation.test_sessions
        back += 4 * max(run.config.labels.horizons)
    last = int(run.calendar.sessions.searchsorted(end))
    return run.calendar.sessions[max(last - back, 0)]


def _smaller(run: Run, block: Block) -> Run:
    """Return the run with one member, few epochs, and some of the symbols that have bars."""
    here = [block.symbols[place] for place in np.flatnonzero(block.has_bar.any(axis=0))]
    most = _SYMBOLS[run.config.model.scope]
    chosen = [here[int(place)] for place in np.unique(np.linspace(0, len(here) - 1, most).astype(int))]
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


def _only(block: Block, symbols: list[str]) -> Block:
    columns = [block.symbols.index(symbol) for symbol in symbols]
    return replace(block, values=block.values[:, columns], symbols=symbols)


def _extent(run: Run, chosen: Run, known: Sequences) -> str:
    model, training = chosen.config.model, chosen.config.training
    first, last = known.sessions[0], known.sessions[-1]
    epochs = "" if model.is_custom else f"{training.epochs} of {run.config.training.epochs} epochs, "
    return (
        f"{model.members} of {run.config.model.members} members, {epochs}"
        f"{len(known.symbols)} of {len(run.universe.symbols)} symbols, {len(known.sessions):,} sessions from "
        f"{first:%Y-%m-%d} to {last:%Y-%m-%d}"
    )


@contextmanager
def _procedure(subject: Subject) -> Iterator[Procedure]:
    run, known, features = subject.run, subject.sequences, subject.bench.features
    panel, last_return = build_panel(subject.bench.block), features.columns.index(features.last_return)
    ours = make_baselines(run, features)
    with open_compute(run, known) as workshop, symbols_named(known.symbols):
        yield Procedure(
            name=run.config.model.name,
            model=make_recipe(run, features, lambda epoch: None, workshop),
            base_rate=ours["base_rate"],
            sequences=known,
            fold=subject.folds["score"],
            calendar=run.calendar,
            returns=label_returns(panel, known.horizons),
            dead_zone=run.config.labels.dead_zone,
            seed=run.config.training.seed,
            last_return=last_return,
            digest=partial(_digest_fit, run),
            tolerance=SAME if run.config.model.is_custom else 0.0,
        )


def _digest_fit(run: Run, fitted: Any) -> str:
    """Return the version that the fit would have as a model: the digest of its files."""
    with run.workspace.scratch() as folder:
        fitted.save(folder / "fit", extra={})
        return model_version(folder / "fit")


def _of_one_epoch(model: Any) -> Any:
    return replace(model, training=replace(model.training, epochs=1))
