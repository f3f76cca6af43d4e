"""Known answers through the whole procedure: a planted signal is found, noise and shuffled labels are not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flows.runtime.context import Run, open_run
from flows.training.compute import open_compute
from flows.training.history import History, make_sequences
from flows.training.scoring import score_procedure
from flows.training.train import train_procedure
from pipeline.evaluation.verdict import Verdict
from pipeline.market.calendar import Calendar
from pipeline.prices.ingest.quality import check
from tests.conftest import NOW, vendor_bars

pytestmark = [pytest.mark.slow, pytest.mark.own_process]

SYMBOLS, SESSIONS, REPEATS = 40, 1000, 0.62
SETTINGS = """
[universe]
name = "planted"
source = "files"
path = "prices.parquet"
historical = true
[model]
units = 8
members = 2
lookback = 4
[training]
epochs = 60
learning_rate = 0.01
stop_sessions = 100
calibrate_sessions = 100
[evaluation]
test_sessions = 200
"""


def walk(signs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return closes [session, symbol] whose moves have these signs and sizes without information."""
    return 100 * np.exp(np.cumsum(signs * np.abs(rng.normal(0, 0.01, signs.shape)), axis=0))


def markov_signs(repeats: float, rng: np.random.Generator) -> np.ndarray:
    """Return signs that repeat with the given probability, each symbol on its own."""
    turns = np.where(rng.random((SESSIONS, SYMBOLS)) < repeats, 1, -1)
    return np.cumprod(turns, axis=0)


def history_of(folder: Path, xnys: Calendar, closes: np.ndarray, settings: str) -> tuple[Run, History]:
    """Return a run on these closes [session, symbol] and their history."""
    sessions = xnys.sessions[: len(closes)]
    parts = [vendor_bars(sessions, closes[:, k]).assign(symbol=f"S{k:02d}") for k in range(closes.shape[1])]
    pd.concat(parts).drop(columns=["adj_close"]).rename(columns={"session": "date"}).to_parquet(
        folder / "prices.parquet"
    )
    (folder / "nextday.toml").write_text(settings)
    run = open_run(folder / "nextday.toml", folder / "data", NOW)
    answers = [run.source.fetch(s, sessions[0], sessions[-1], NOW) for s in run.universe.symbols]
    run.store.append(
        check(answers, run.calendar, sessions[-1], source="files", historical=True).prices, run="test"
    )
    return run, make_sequences.fn(run, sessions[-1], run.store.seq())


def planted(
    tmp_path: Path, xnys: Calendar, repeats: float, seed: int, settings: str = SETTINGS
) -> tuple[Run, History]:
    rng = np.random.default_rng(seed)
    return history_of(tmp_path, xnys, walk(markov_signs(repeats, rng), rng), settings)


def verdict_of(run: Run, known: History) -> tuple[Verdict, pd.DataFrame]:
    with open_compute(run, known.sequences) as compute:
        walked, _, _ = train_procedure.fn(run, known, compute)
    scores, verdict = score_procedure.fn(run, walked)
    return verdict, scores.set_index(["model", "metric"])


def test_a_planted_sign_is_found_as_well_as_it_can_be_and_no_better(tmp_path: Path, xnys: Calendar) -> None:
    run, known = planted(tmp_path, xnys, REPEATS, seed=1)
    verdict, scores = verdict_of(run, known)
    hit_rate = scores.loc[("gru", "hit_rate")]
    # The best possible call is the last sign: it hits with the probability that a sign repeats.
    assert hit_rate["low"] <= REPEATS <= hit_rate["high"]
    assert hit_rate["n"] == SYMBOLS * 200
    # The rule that knows the truth is the best baseline, and nothing beats it.
    assert verdict.baseline == "last_sign"
    assert verdict.conclusion != "edge"
    # Each stock goes its own way, so the skill is one of picking, and the same rule has it.
    picking = verdict.skills[1]
    assert (picking.name, picking.conclusion, picking.baseline) == ("picking", "edge", "last_sign")
    assert picking.low <= REPEATS <= picking.high
    assert scores.loc[("gru", "rank_ic"), "low"] > 0
    base_rate = scores.loc[("base_rate", "log_loss"), "value"]
    bayes = -(REPEATS * np.log(REPEATS) + (1 - REPEATS) * np.log(1 - REPEATS))
    assert scores.loc[("gru", "log_loss"), "low"] <= bayes < base_rate
    assert scores.loc[("gru", "log_loss"), "high"] < base_rate


def test_noise_is_not_found(tmp_path: Path, xnys: Calendar) -> None:
    run, known = planted(tmp_path, xnys, 0.5, seed=2)
    verdict, scores = verdict_of(run, known)
    assert verdict.conclusion == "no edge found"
    assert all(skill.conclusion != "edge" for skill in verdict.skills)
    assert scores.loc[("gru", "auc"), "low"] <= 0.5 <= scores.loc[("gru", "auc"), "high"]


def test_labels_shuffled_by_session_leave_nothing_to_find(tmp_path: Path, xnys: Calendar) -> None:
    run, known = planted(tmp_path, xnys, REPEATS, seed=3)
    order = np.random.default_rng(0).permutation(SESSIONS)
    shuffled = History(known.panel, replace(known.sequences, y=known.sequences.y[:, order]), known.seq)
    verdict, scores = verdict_of(run, shuffled)
    assert verdict.conclusion != "edge"
    assert scores.loc[("gru", "auc"), "low"] <= 0.5 <= scores.loc[("gru", "auc"), "high"]


def test_a_label_used_as_a_feature_would_be_seen_at_once(tmp_path: Path, xnys: Calendar) -> None:
    """The control of the controls: with a leak planted, the score is far above anything honest."""
    settings = SETTINGS.replace("epochs = 60", "epochs = 15")  # a leak is learned quickly
    run, known = planted(tmp_path, xnys, 0.5, seed=4, settings=settings)
    leaking = known.sequences.x.copy()
    leaking[:, :, 0] = np.nan_to_num(known.sequences.y[:, :, 0], nan=0.5)
    _, scores = verdict_of(run, History(known.panel, replace(known.sequences, x=leaking), known.seq))
    assert scores.loc[("gru", "hit_rate"), "low"] > 0.9


def test_about_the_configured_share_of_rows_gets_a_direction(tmp_path: Path, xnys: Calendar) -> None:
    settings = f'{SETTINGS}[calibration]\nmethod = "auto"\ncoverage = 0.4\n'
    verdict, scores = verdict_of(*planted(tmp_path, xnys, REPEATS, seed=5, settings=settings))
    told = scores[scores["group"] == "sides taken"].loc[("gru", "hit_rate")]
    every = scores[scores["group"] == "all"].loc["gru"]
    share = every.loc["sides_taken"]
    assert (share["baseline"], share["baseline_value"]) == ("target", 0.4)
    assert share["value"] == pytest.approx(0.4, abs=0.1)
    assert share["n"] == every.loc["log_loss", "n"] == SYMBOLS * 200
    assert told["n"] == round(share["value"] * share["n"])
    # Every side is as likely to be right as every other here: leaving some out wins nothing, and is not said to.
    assert told["low"] <= REPEATS <= told["high"]
    assert verdict.n == SYMBOLS * 200
