"""Simulated records: intervals hold the truth as often as they say, noise is no edge, and a planted edge is found."""

import math

import numpy as np
import pandas as pd
import pytest
from arch.data import sp500
from scipy.stats import binomtest, norm

from pipeline.evaluation.aligned import gather_labelled
from pipeline.evaluation.scores import score
from pipeline.evaluation.session_sums import METRICS, RETURN_METRICS
from pipeline.evaluation.subgroups import score_groups
from pipeline.evaluation.timing_and_picking import find_best, judge_skills
from pipeline.evaluation.verdict import judge
from pipeline.statistics import bootstrap, metrics, significance
from pipeline.statistics.power import estimate_sample_size
from tests.pipeline.evaluation.test_scores import stack

pytestmark = pytest.mark.proof

SHARED = 0.36
"""Of a symbol's variance, about what a market explains of its stocks."""


def keys_of(targets: pd.DatetimeIndex, symbols: int) -> pd.DataFrame:
    """Return the keys of one row a session and symbol; `targets` begins with the first as_of."""
    return pd.DataFrame(
        {
            "symbol": [f"S{i}" for i in range(symbols)] * (len(targets) - 1),
            "as_of": targets[:-1].repeat(symbols),
            "target_session": targets[1:].repeat(symbols),
            "horizon": 1,
        }
    )


def happen(rng: np.random.Generator, chance: np.ndarray) -> np.ndarray:
    """Return outcomes [session, symbol] that come with their chance and share a shock each session."""
    shock = rng.normal(size=(len(chance), 1))
    z = math.sqrt(SHARED) * shock + math.sqrt(1 - SHARED) * rng.normal(size=chance.shape)
    return (z < norm.ppf(chance)).astype(float)


def test_intervals_of_95_percent_hold_the_truth_in_92_to_97_and_those_of_rows_far_less() -> None:
    sessions, symbols, runs = 250, 30, 1000
    keys = keys_of(pd.bdate_range("2015-01-01", periods=sessions + 1).as_unit("us"), symbols)
    rng, held = np.random.default_rng(1), {"log loss": 0, "hit rate": 0, "rows": 0}
    # Half of the sessions are called up and half down for all symbols, each right with 0.54.
    chance = np.repeat(np.where(np.arange(sessions) % 2, 0.54, 0.46)[:, None], symbols, axis=1)
    gain = math.log(2) + 0.54 * math.log(0.54) + 0.46 * math.log(0.46)
    for seed in range(runs):
        y = happen(rng, chance)
        rows = stack(keys.assign(outcome=y.ravel()), gru=chance.ravel(), coin=0.5)
        verdict = judge(rows, model="gru", baseline="coin", draws=300, seed=seed)
        held["log loss"] += verdict.low <= gain <= verdict.high
        hits = ((chance > 0.5) == (y == 1)).mean(axis=1)
        copies = bootstrap.resample_sessions(hits, draws=300, seed=seed)
        low, high = bootstrap.percentile_interval(copies @ hits / sessions)
        held["hit rate"] += low <= 0.54 <= high
        held["rows"] += abs(hits.mean() - 0.54) <= 1.96 * math.sqrt(0.54 * 0.46 / y.size)
    share = {name: count / runs for name, count in held.items()}
    print(share)
    assert 0.92 <= share["log loss"] <= 0.97
    assert 0.92 <= share["hit rate"] <= 0.97
    assert share["rows"] < 0.6


def test_noise_on_a_real_calendar_with_real_volatilities_is_an_edge_in_5_percent_at_most() -> None:
    """The S&P 500's own moves, their signs tossed anew: everything of a market but a direction to be known."""
    sessions, symbols, runs = 250, 20, 200
    returns = sp500.load()["Adj Close"].pct_change().dropna()
    rng, findings = np.random.default_rng(2), []
    for seed in range(runs):
        first = int(rng.integers(0, len(returns) - sessions - 1))
        window = returns.iloc[first : first + sessions + 1]
        market = window.to_numpy()[:, None] * rng.choice([-1, 1], (sessions + 1, 1))
        moves = market + np.abs(market).mean() * rng.standard_t(4, (sessions + 1, symbols))
        keys = keys_of(pd.DatetimeIndex(window.index).as_unit("us"), symbols)
        # What a model might make of noise: it follows the last move of each stock and of the market.
        p = 0.5 + 0.01 * np.tanh((moves[:-1] + market[:-1]) / moves.std())
        rows = stack(keys.assign(outcome=(moves[1:] > 0).astype(float).ravel()), gru=p.ravel(), base_rate=0.5)
        findings.append(judge(rows, model="gru", baseline="base_rate", draws=300, seed=seed).conclusion)
    edges = findings.count("edge")
    interval = binomtest(edges, runs).proportion_ci()
    print(edges, interval, findings.count("worse than the baseline"))
    assert edges / runs <= 0.05


@pytest.mark.parametrize("scale", [0.01, 0.0005])
def test_of_200_forecasts_without_skill_timing_or_picking_is_an_edge_in_about_5_percent(scale: float) -> None:
    """Forecasts that follow yesterday and each stock's beta, of a market in which neither says anything."""
    sessions, symbols, runs = 250, 20, 200
    keys = keys_of(pd.bdate_range("2015-01-01", periods=sessions + 1).as_unit("us"), symbols)
    best = pd.DataFrame({"horizon": 1, "skill": ["timing", "picking"], "baseline": "base_rate"})
    rng, found = np.random.default_rng(7), []
    for seed in range(runs):
        beta, market = rng.uniform(0.5, 1.5, symbols), rng.standard_t(4, (sessions + 1, 1))
        moves = market * beta + 1.3 * rng.standard_t(4, (sessions + 1, symbols))
        p = 0.5 + scale * (np.tanh((moves[:-1] + market[:-1]) / moves.std()) + beta - 1)
        rows = stack(keys.assign(outcome=(moves[1:] > 0).astype(float).ravel()), gru=p.ravel(), base_rate=0.5)
        skills = judge_skills(rows, model="gru", best=best, draws=300, seed=seed)
        found.append([skill.conclusion == "edge" for skill in skills])
    either = int(np.any(found, axis=1).sum())
    interval = binomtest(either, runs).proportion_ci()
    print(np.sum(found, axis=0), either, interval)
    assert interval.low <= 0.05 <= interval.high


def test_a_planted_53_percent_is_found_as_often_as_the_sample_size_promises() -> None:
    symbols, runs, hit_rate = 30, 400, 0.53
    rng = np.random.default_rng(3)

    def calls(sessions: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        side = rng.choice([-1, 1], (sessions, 1)) * np.ones(symbols)
        y = happen(rng, 0.5 + (hit_rate - 0.5) * side)
        return (0.5 + 0.03 * side).ravel(), y.ravel(), np.arange(sessions).repeat(symbols)

    needed = int(estimate_sample_size(*calls(4000), hit_rate=hit_rate).needed)
    independent = significance.forecasts_needed(hit_rate) / symbols
    found = 0
    for _ in range(runs):
        p, y, _ = calls(needed)
        rates = ((p > 0.5) == (y == 1)).reshape(needed, symbols).mean(axis=1)
        test = significance.diebold_mariano(rates - 0.5)
        found += test.difference > 0 and test.p_value < 0.1  # one-sided 5%
    print(needed, independent, found / runs)
    assert needed > 5 * independent
    assert (
        binomtest(found, runs).proportion_ci().low
        <= 0.8
        <= binomtest(found, runs).proportion_ci().high + 0.02
    )


def test_the_verdict_on_probabilities_finds_the_same_edge_as_often_as_its_closed_form_says() -> None:
    """True probabilities 0.5 + e gain 2 e^2 nats with a spread of 4 e s, s that of a session's hit rate.

    So the mean gain lies e sqrt(n) / (2 s) standard errors above zero, half as far as the hit rate does.
    """
    symbols, sessions, runs, edge = 30, 1500, 150, 0.03
    keys = keys_of(pd.bdate_range("2010-01-01", periods=sessions + 1).as_unit("us"), symbols)
    rng, findings, spread = np.random.default_rng(4), [], []
    for seed in range(runs):
        chance = 0.5 + edge * rng.choice([-1, 1], (sessions, 1)) * np.ones(symbols)
        y = happen(rng, chance)
        rows = stack(keys.assign(outcome=y.ravel()), gru=chance.ravel(), base_rate=0.5)
        findings.append(judge(rows, model="gru", baseline="base_rate", draws=300, seed=seed).conclusion)
        spread.append(((chance > 0.5) == (y == 1)).mean(axis=1).std())
    power = norm.sf(norm.ppf(0.975) - edge * math.sqrt(sessions) / (2 * np.mean(spread)))
    interval = binomtest(findings.count("edge"), runs).proportion_ci()
    print(power, interval)
    assert interval.low <= power <= interval.high
    assert "worse than the baseline" not in findings


def test_calibrated_forecasts_keep_zero_in_the_interval_of_their_calibration_error() -> None:
    sessions, symbols, runs = 250, 10, 150
    keys = keys_of(pd.bdate_range("2015-01-01", periods=sessions + 1).as_unit("us"), symbols)
    rng, held = np.random.default_rng(5), []
    for seed in range(runs):
        chance = np.clip(0.52 + 0.03 * rng.normal(size=(sessions, symbols)), 0.01, 0.99)
        rows = stack(keys.assign(outcome=happen(rng, chance).ravel()), gru=chance.ravel(), base_rate=0.52)
        lines = score(rows, baseline="base_rate", draws=200, seed=seed)
        own = lines[lines["model"] == "gru"].set_index("metric")
        held.append((own.loc[["ece", "miscalibration"], "low"] == 0).tolist())
    print(np.mean(held, axis=0))
    assert (np.mean(held, axis=0) > 0.85).all()
    table = gather_labelled(rows)
    assert metrics.ece(table.p["gru"], table.y) > 0


@pytest.mark.parametrize("seed", range(100))
def test_any_record_however_poor_is_scored_without_an_error(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sessions, symbols = int(rng.choice([1, 2, 9, 10, 15, 60, 70])), int(rng.integers(1, 6))
    n, horizon = sessions * symbols, int(rng.choice([1, 5]))
    shares = ([0.45, 0.45, 0.1], [0.98, 0.02, 0], [0, 1, 0], [0.1, 0.1, 0.8])
    outcome = rng.choice([0, 1, np.nan], n, p=shares[rng.integers(4)])
    p = (rng.choice([0.5, 0.52, 0.48], n), np.full(n, 0.5), rng.random(n), rng.choice([0.0, 1.0], n))
    keys = keys_of(pd.bdate_range("2015-01-01", periods=sessions + 1).as_unit("us"), symbols)
    keys = keys.assign(outcome=outcome, horizon=horizon, realized_return=rng.normal(0, 0.01, n))
    rows = stack(keys, gru=p[rng.integers(4)], base_rate=(0.5, 0.53, 1.0)[rng.integers(3)])
    lines = score(rows, baseline="base_rate", draws=20)
    metrics_of_a_model = len(METRICS) + len(RETURN_METRICS)
    assert len(lines) == (2 * metrics_of_a_model if keys["outcome"].notna().any() else 0)
    for skill in judge_skills(
        rows, model="gru", best=find_best(rows[rows["model"] == "base_rate"]), draws=20
    ):
        assert "nan" not in skill.sentence
    assert judge(rows, model="gru", baseline="base_rate", draws=20).sentence
    groups = score_groups(rows, model="gru", baseline="base_rate", draws=20)
    assert groups.empty == lines.empty
