"""Whether sequence training forecasts as well as windowed training: one network, the same rows, five members each.

Real prices are judged on sessions before those that published results and the README stand on, so that nothing is
chosen by them. The difference is that of the log loss by session, windowed less sequence: above zero sequence is
better.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flows.training.history import make_sequences
from models.baselines import baselines
from pipeline.config import Config, EvaluationConfig
from pipeline.features.sequences import Sequences
from pipeline.forecasting.folds import Fold, scoring_fold
from pipeline.forecasting.walk_forward import walk_forward
from pipeline.statistics.bootstrap import percentile_interval, resample_sessions
from tests.bench.market import DAYS
from tests.bench.quality.stored_prices import open_stored
from tests.support.made_sequences import sequences_of

pytestmark = pytest.mark.bench

SHIPPED = Config()
SYMBOLS, SESSIONS = 40, 1200


@dataclass(frozen=True)
class Case:
    """What both modes learn from and are judged by; by default with the shipped settings."""

    sequences: Sequences
    fold: Fold
    last_return: int = 0
    lookback: int = SHIPPED.model.lookback
    convolution: int = SHIPPED.model.convolution
    learning_rate: float = SHIPPED.training.learning_rate
    epochs: int = SHIPPED.training.epochs
    patience: int = SHIPPED.training.patience


def real(folder: Path, source: str, train_end: date, validation_end: date, test_end: date) -> Case:
    """Return real prices, judged on the sessions after `validation_end` to `test_end`."""
    end = pd.Timestamp(test_end)
    run = open_stored(folder, f'[universe]\nname = "judged"\n{source}', end)
    # The sample's last session may lie before the last day that is asked for.
    last = run.store.latest("session", end, symbols=run.universe.symbols)
    known = make_sequences.fn(run, last, run.store.seq()).sequences
    cut = EvaluationConfig(train_end=train_end, validation_end=validation_end, test_end=test_end)
    features = run.feature_set(outputs=known.outputs)
    return Case(
        known, scoring_fold(known, cut, SHIPPED.training), features.columns.index(features.last_return)
    )


def planted(signs: Callable[[np.random.Generator], np.ndarray], lookback: int, patience: int) -> Case:
    """Return a made-up market whose moves have these signs and sizes that tell nothing."""
    rng = np.random.default_rng(5)
    moves = signs(rng) * np.abs(rng.normal(0, 1, (SYMBOLS, SESSIONS)))
    y = np.full((*moves.shape, 1), np.nan, np.float32)
    y[:, :-1, 0] = moves[:, 1:] > 0
    x = np.stack([moves, rng.standard_normal(moves.shape)], axis=-1).astype(np.float32)
    names = tuple(f"S{number}" for number in range(SYMBOLS))
    made = sequences_of(
        x, np.ones(moves.shape, bool), y, names, DAYS.sessions[:SESSIONS], (1,), ("move", "noise")
    )
    fold = Fold(range(700), range(701, 800), range(801, 900), range(901, SESSIONS - 1))
    return Case(made, fold, lookback=lookback, learning_rate=5e-3, epochs=80, patience=patience)


def repeated(rng: np.random.Generator) -> np.ndarray:
    """Return signs that repeat that of the session before in 58 of 100 sessions."""
    return np.cumprod(np.where(rng.random((SYMBOLS, SESSIONS)) < 0.58, 1, -1), axis=1)


def echoed(rng: np.random.Generator) -> np.ndarray:
    """Return signs that repeat that of 10 sessions before in 70 of 100 sessions."""
    signs = np.where(rng.random((SYMBOLS, SESSIONS)) < 0.5, 1, -1)
    keeps = np.where(rng.random((SYMBOLS, SESSIONS)) < 0.70, 1, -1)
    for session in range(10, SESSIONS):
        signs[:, session] = signs[:, session - 10] * keeps[:, session]
    return signs


def ensemble(case: Case, mode: str) -> Any:
    from models.ensembles.pooled import RecurrentModel
    from models.networks.network import Network
    from models.training.trainer import Training

    width, shipped = len(case.sequences.features), SHIPPED.training
    return RecurrentModel(
        Network(
            *("gru", width, case.lookback, SHIPPED.model.units),
            convolution=case.convolution,
            mode=mode,  # type: ignore[arg-type]
        ),
        Training(
            epochs=case.epochs,
            batch_size=shipped.batch_size,
            chunk=shipped.chunk,
            learning_rate=case.learning_rate,
            patience=case.patience,
        ),
        members=5,
    )


def losses_by_session(case: Case, seed: int) -> pd.DataFrame:
    """Return the mean log loss of each session [session, model] on the rows that all models forecast."""
    walk = walk_forward(
        {mode: ensemble(case, mode) for mode in ("windowed", "sequence")}
        | {"base_rate": baselines(case.last_return, case.lookback)["base_rate"]},
        case.sequences,
        [case.fold],
        DAYS,
        dead_zone=(0, 0),
        seed=seed,
        refit=False,
        progress=lambda name: None,
    )
    key = ["symbol", "target_session"]
    rows = walk.test.dropna(subset=["outcome"])
    p_up = rows.pivot(index=key, columns="model", values="p_up").dropna()
    outcome = rows.groupby(key)["outcome"].first().reindex(p_up.index).to_numpy()
    lost = -np.log(np.where(outcome[:, None] > 0.5, p_up, 1 - p_up))
    return pd.DataFrame(lost, p_up.index, p_up.columns).groupby("target_session").mean()


def compare(name: str, case: Case, seeds: Sequence[int] = (SHIPPED.training.seed,)) -> float:
    """Print both; return the upper end of what sequence training saves: below zero it is worse beyond chance."""
    losses = sum(losses_by_session(case, seed) for seed in seeds) / len(seeds)
    saved = (losses["windowed"] - losses["sequence"]).to_numpy()
    copies = resample_sessions(saved, draws=2000, seed=1)
    low, high = percentile_interval(copies @ saved / len(saved))
    means = ", ".join(f"{column} {losses[column].mean():.5f}" for column in losses)
    print(
        f"\n{name}: {means}; sequence saves {saved.mean():+.5f} [{low:+.5f}, {high:+.5f}], {len(saved)} sessions"
    )
    return float(high)


def test_on_the_sample(tmp_path: Path) -> None:
    case = real(tmp_path, "", date(2012, 12, 31), date(2014, 12, 31), date(2016, 12, 30))
    assert compare("two indices", case) >= 0


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("acl18", (date(2015, 3, 31), date(2015, 7, 31), date(2015, 9, 30))),
        ("sp500", (date(2014, 3, 31), date(2014, 9, 30), date(2015, 6, 30))),
    ],
)
def test_on_real_stocks(name: str, ends: tuple[date, date, date], datasets: Path, tmp_path: Path) -> None:
    source = f'source = "files"\nhistorical = true\npath = "{datasets / name / "prices.parquet"}"\n'
    assert compare(name, real(tmp_path, source, *ends)) >= 0


def test_on_planted_signs() -> None:
    """Of one ensemble the seeds decide more than the mode: six are compared."""
    signs = planted(repeated, lookback=20, patience=10)
    assert compare("the last sign, in 58 of 100", signs, seeds=range(20, 80, 10)) >= 0


def test_on_a_planted_echo() -> None:
    """A window counts its sessions from the same start every time; a state that runs on has to hold all ten of them.

    So the plain network is worse in sequence mode, which is why windowed is the default; with a convolution that
    reaches over the echo it is not.
    """
    echo = planted(echoed, lookback=20, patience=10)
    compare("an echo of 10 sessions, in 70 of 100", echo)
    assert compare("the same, a convolution of 12 in front", replace(echo, convolution=12)) >= 0
