"""Train a procedure, score it on sessions it never saw, then fit it once more through tonight."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flows.chapters import chapter
from flows.epochs import epoch_table, epochs_shown, plan_epochs
from flows.own_code import note_code
from flows.progress import say
from flows.recipe import choose_start, make_baselines, make_recipe
from flows.run import Run
from flows.scope import drop_left_out, symbols_named
from flows.workshop import Workshop
from models.ensembles.model_files import model_version
from pipeline.errors import StoreError
from pipeline.evaluation.horizons import NEXT, name_group, select_horizon
from pipeline.evaluation.network_insight import Insight, load_insight, save_insight
from pipeline.evaluation.scores import score
from pipeline.evaluation.selective import measure_sides, select_told
from pipeline.evaluation.verdict import Verdict, best_baseline, judge
from pipeline.features.panel import Panel, build_panel
from pipeline.features.sequences import Sequences, build_sequences, total_returns
from pipeline.forecasting.folds import Fold, final_fold, scoring_fold
from pipeline.forecasting.forecast import take_sides
from pipeline.forecasting.model import Fitted, Model, fit
from pipeline.forecasting.walk_forward import Walk, teach, walk_forward
from pipeline.storage.files import write_bytes, write_text

__all__ = [
    "Evaluation",
    "History",
    "load_evaluation",
    "make_sequences",
    "price_panel",
    "range_table",
    "save_evaluation",
    "score_farther",
    "score_procedure",
    "train_champion",
    "train_procedure",
]


@dataclass(frozen=True, eq=False)
class History:
    """The universe's prices through one session, as one version of the store knows them."""

    panel: Panel
    sequences: Sequences
    seq: int

    @property
    def as_of(self) -> pd.Timestamp:
        """The last session."""
        return self.sequences.sessions[-1]

    @property
    def returns(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Simple total returns [symbol, session, horizon]."""
        return np.stack([total_returns(self.panel, h).T for h in self.sequences.horizons], axis=-1)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What the training of one model found out about its procedure.

    Attributes:
        scores: schema.SCORES.
        verdict: On the next session, in words, with its evidence.
        test_rows: Every forecast of the test, the baselines' too.
        epochs: fit, member, epoch, loss, hit_rate, stop_loss, stop_hit_rate, gradient_norm.
        ranges: How history was cut: fit, part, first_session, last_session, sessions, rows.
        further: The verdicts on the farther horizons, by horizon.
        insight: What the network of the scoring fit looks at; None where that is not kept.
    """

    scores: pd.DataFrame
    verdict: Verdict
    test_rows: pd.DataFrame
    epochs: pd.DataFrame
    ranges: pd.DataFrame
    further: Mapping[int, Verdict] = field(default_factory=dict)
    insight: Insight | None = None


@chapter("make sequences", run_name="make sequences through {as_of:%Y-%m-%d}")
def make_sequences(
    run: Run,
    as_of: pd.Timestamp,
    seq: int,
    feature_set: str = "",
    first: pd.Timestamp | None = None,
    horizons: tuple[int, ...] = (),
) -> History:
    """Read the prices through `as_of` as known at `seq`, and make sequences of them.

    Args:
        run: The run.
        as_of: The last session.
        seq: The version of the store.
        feature_set: Default: as configured.
        first: The first session of the sequences; default: that of the first bar.
        horizons: How many sessions ahead the labels lie; default: as configured.

    Raises:
        StoreError: there are none.
    """
    chosen = run.feature_set(feature_set)
    since = None
    if first is not None:
        # A row depends on no session before these: bars older than that are not even read.
        since = run.calendar.sessions[max(int(run.calendar.sessions.searchsorted(first)) - chosen.reach, 0)]
    panel = price_panel(run, as_of, seq, since=since)
    sequences = build_sequences(panel, chosen, run.universe, horizons or run.config.labels.horizons)
    if first is not None:
        sequences = sequences.since(first)
    say(
        f"made sequences of {len(sequences.symbols)} symbols x {len(sequences.sessions)} sessions x "
        f"{len(sequences.features)} features: {int(sequences.mask.sum())} valid rows"
    )
    return History(panel, sequences, seq)


def price_panel(
    run: Run,
    as_of: pd.Timestamp,
    seq: int,
    symbols: list[str] | None = None,
    since: pd.Timestamp | None = None,
) -> Panel:
    """Lay the stored prices through `as_of`, as known at `seq`, onto the calendar.

    Args:
        run: The run.
        as_of: The last session.
        seq: The version of the store.
        symbols: The columns; default: the universe's.
        since: The first session; default: that of the first bar.

    Raises:
        StoreError: there are none.
    """
    symbols = symbols or run.universe.symbols
    sessions = run.calendar.sessions_between(since or run.calendar.sessions[0], as_of)
    block = run.store.read_block(sessions, symbols, seq).from_first_bar()
    if len(block.sessions) == 0:
        raise StoreError(f"The store holds no bar up to {as_of:%Y-%m-%d}", where=str(run.store.folder))
    return build_panel(block)


@chapter("train")
def train_procedure(run: Run, known: History, workshop: Workshop) -> tuple[Walk, pd.DataFrame, Fold]:
    """Fit the network and every baseline with the test held back, and forecast the test.

    Args:
        run: The run.
        known: The history.
        workshop: Where the network is trained.

    Returns:
        The walk, the network's epochs, and the fold.
    """
    fold = scoring_fold(known.sequences, run.config.evaluation, run.config.training)
    features, planned = run.feature_set(), plan_epochs(run.config, len(known.sequences.symbols))
    with epochs_shown("train to score", *planned) as progress, symbols_named(known.sequences.symbols):
        models: dict[str, Model] = {run.config.model.name: make_recipe(run, features, progress, workshop)}
        models |= make_baselines(run, features)
        walk = walk_forward(
            models,
            known.sequences,
            [fold],
            run.calendar,
            returns=known.returns,
            dead_zone=run.config.labels.dead_zone,
            seed=run.config.training.seed,
            tell=lambda name: say(f"fitting {name}"),
        )
    network = walk.fitted[run.config.model.name]
    return drop_left_out(walk, network, known.sequences.symbols), epoch_table(network, "score"), fold


@chapter("score")
def score_procedure(run: Run, walk: Walk, baseline: str = "") -> tuple[pd.DataFrame, Verdict]:
    """Score the test rows of the next session against the baseline, by default that which was best before the test."""
    scores, verdict = _score_horizon(run, walk, NEXT, baseline)
    if run.config.labels.dead_zone != (0, 0):
        down, up = run.config.labels.dead_zone
        rows = select_horizon(walk.test)
        moved = rows[(rows["realized_return"] < down) | (rows["realized_return"] > up)]
        seed = run.config.training.seed
        large = score(moved, baseline=verdict.baseline, group="large moves", seed=seed)
        scores = pd.concat([scores, large])
    return scores.reset_index(drop=True), verdict


@chapter("score farther ahead")
def score_farther(run: Run, walk: Walk, baseline: str = "") -> tuple[pd.DataFrame, dict[int, Verdict]]:
    """Score each farther horizon by itself, by default against what was best for it before the test began."""
    found = {h: _score_horizon(run, walk, h, baseline) for h in run.config.labels.horizons if h != NEXT}
    scores = pd.concat([scores for scores, _ in found.values()], ignore_index=True)
    return scores, {horizon: verdict for horizon, (_, verdict) in found.items()}


def _score_horizon(run: Run, walk: Walk, horizon: int, baseline: str) -> tuple[pd.DataFrame, Verdict]:
    model, seed = run.config.model.name, run.config.training.seed
    before, test = select_horizon(walk.before, horizon), select_horizon(walk.test, horizon)
    baseline = baseline or best_baseline(before[before["model"] != model])
    parts = [score(test, baseline=baseline, group=name_group("all", horizon), seed=seed)]
    if run.config.calibration.coverage < 1:
        parts += _score_sides(run, test, baseline, horizon)
    verdict = judge(test, model=model, baseline=baseline, seed=seed)
    say(verdict.sentence)
    return pd.concat(parts), verdict


def _score_sides(run: Run, rows: pd.DataFrame, baseline: str, horizon: int) -> list[pd.DataFrame]:
    """Say how many rows the network takes a side on, and score every model on those."""
    model, seed = run.config.model.name, run.config.training.seed
    target = run.config.calibration.coverage
    share = measure_sides(rows, model=model, target=target, group=name_group("all", horizon), seed=seed)
    group = name_group("sides taken", horizon)
    told = score(select_told(rows, model), baseline=baseline, group=group, seed=seed)
    return [part for part in (share, told) if len(part)]


@chapter("train the champion")
def train_champion(
    run: Run, known: History, workshop: Workshop, scored: Fitted
) -> tuple[str, pd.DataFrame, Fold]:
    """Fit the same procedure through as_of and keep its files.

    Args:
        run: The run.
        known: The history.
        workshop: Where it is trained.
        scored: The fit of `train_procedure`, to go on from where the settings say so.

    Returns:
        The model's version, its epochs, and its fold.
    """
    fold = final_fold(known.sequences, run.config.training)
    taught = teach(known.sequences, fold, known.returns, run.config.labels.dead_zone)
    features, start = run.feature_set(), choose_start(run, scored, fold)
    planned = plan_epochs(run.config, len(known.sequences.symbols))
    with epochs_shown("train champion", *planned) as progress, symbols_named(known.sequences.symbols):
        champion = fit(
            make_recipe(run, features, progress, workshop, start),
            taught,
            fold,
            run.config.training.seed,
        )
    half = run.workspace.model(run.name, ".new")
    shutil.rmtree(half, ignore_errors=True)
    champion.save(half, extra=_facts(run, known, champion))  # type: ignore[attr-defined]
    version = model_version(half)
    whole = run.workspace.model(run.name, version)
    if whole.exists() and model_version(whole) != version:
        shutil.rmtree(whole)  # damaged; it has just been made again
    if whole.exists():
        shutil.rmtree(half)
    else:
        half.replace(whole)
    say(f"champion {version} fitted through {known.as_of:%Y-%m-%d}")
    for row, reason in getattr(champion, "left_out", {}).items():
        say(f"{known.sequences.symbols[row]} has no model of its own: {reason}")
    return version, epoch_table(champion, "champion"), fold


def save_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Keep an evaluation beside its model."""
    for name in ("scores", "epochs", "ranges"):
        write_text(folder / f"{name}.csv", getattr(evaluation, name).to_csv(index=False))
    write_bytes(folder / "test_rows.parquet", evaluation.test_rows.to_parquet(index=False))
    if evaluation.insight:
        save_insight(folder, evaluation.insight)
    write_text(folder / "verdict.json", json.dumps(asdict(evaluation.verdict), indent=1) + "\n")
    further = {horizon: asdict(verdict) for horizon, verdict in evaluation.further.items()}
    if further:
        write_text(folder / _FARTHER, json.dumps(further, indent=1) + "\n")


_FARTHER = "verdicts_farther.json"
"""Only where the model looks beyond the next session."""


def load_evaluation(folder: Path) -> Evaluation:
    """Read what `save_evaluation` kept.

    Raises:
        StoreError: a file is missing or damaged.
    """
    try:
        tables = {name: pd.read_csv(folder / f"{name}.csv") for name in ("scores", "epochs", "ranges")}
        if "effective_n" not in tables["scores"]:  # written before it was kept
            tables["scores"]["effective_n"] = np.nan
        for name in ("first_session", "last_session"):
            tables["ranges"][name] = pd.to_datetime(tables["ranges"][name])
        verdict = Verdict(**json.loads((folder / "verdict.json").read_text(encoding="utf-8")))
        test_rows = pd.read_parquet(folder / "test_rows.parquet")
        if "direction" not in test_rows:  # written before a forecast could take no side
            test_rows["direction"] = take_sides(test_rows["p_up"].to_numpy())
        farther = folder / _FARTHER if (test_rows["horizon"] > NEXT).any() else None
        told = json.loads(farther.read_text(encoding="utf-8")) if farther else {}
        further = {int(horizon): Verdict(**verdict) for horizon, verdict in told.items()}
        insight = load_insight(folder)
        return Evaluation(**tables, verdict=verdict, test_rows=test_rows, further=further, insight=insight)
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(
            f"The evaluation of the champion cannot be read: {error}",
            where=str(folder),
            way_out="`nextday retrain` makes a new champion and a new evaluation",
        ) from None


def range_table(known: History, folds: dict[str, Fold]) -> pd.DataFrame:
    """Return how history was cut, one line a fit and part."""
    sessions, labelled = (
        known.sequences.sessions,
        np.isfinite(known.sequences.y).any(axis=2) & known.sequences.mask,
    )
    return pd.DataFrame(
        {
            "fit": name,
            "part": part,
            "first_session": sessions[rows.start],
            "last_session": sessions[rows.stop - 1],
            "sessions": len(rows),
            "rows": int(labelled[:, rows.start : rows.stop].sum()),
        }
        for name, fold in folds.items()
        for part, rows in fold.parts.items()
        if len(rows)
    )


def _facts(run: Run, known: History, champion: Any) -> dict[str, Any]:
    row = getattr(champion, "start", None)  # a model of the user's own has none
    start = None if row is None else f"{known.sequences.sessions[row]:%Y-%m-%d}"
    return {
        "universe": run.name,
        "start": start,
        "symbols": list(known.sequences.symbols),
        "features": run.config.features.set,
        "model": run.config.model.kind,
        "trained_through": f"{known.as_of:%Y-%m-%d}",
        "data_version": known.seq,
        "config_digest": run.digest,
        "settings": run.resolved["settings"],
        **note_code(run),
    }
