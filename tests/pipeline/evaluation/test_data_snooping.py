"""The tests of many candidates: as the library they come from computes them, and on planted losses."""

import numpy as np
import pandas as pd
import pytest
from arch.bootstrap import MCS, SPA

from pipeline.errors import NextdayError
from pipeline.evaluation.data_snooping import (
    choose_common_block_length,
    find_confidence_set,
    session_losses,
    superior_ability,
)
from pipeline.statistics import metrics, significance
from tests.pipeline.evaluation.test_scores import stack, truth


def losses(sessions: int, gains: dict[str, float], seed: int, spread: float = 0.02) -> pd.DataFrame:
    """Return losses of a benchmark and of candidates that gain so much on it, all with a shared part."""
    rng = np.random.default_rng(seed)
    shared = 0.69 + 0.05 * rng.normal(size=sessions)
    frame = {"base_rate": shared + spread * rng.normal(size=sessions)}
    frame |= {name: shared - gain + spread * rng.normal(size=sessions) for name, gain in gains.items()}
    return pd.DataFrame(frame)


def test_the_losses_are_the_means_of_the_sessions() -> None:
    keys, p = truth(30, 4, seed=31, signal=0.1)
    found = session_losses(stack(keys, gru=p, base_rate=0.53))
    y = keys["outcome"].to_numpy()
    assert list(found) == ["gru", "base_rate"]
    assert found["gru"].to_numpy() == pytest.approx(metrics.log_losses(p, y).reshape(30, 4).mean(axis=1))


@pytest.mark.parametrize("seed", range(5))
def test_a_candidate_equal_to_the_benchmark_is_no_evidence(seed: int) -> None:
    frame = losses(250, {"poor": -0.004}, seed=seed)
    frame = frame.assign(twin=frame["base_rate"], rounded=frame["base_rate"] + 1e-17)
    found = superior_ability(frame, "base_rate", draws=200)
    assert (found.p_value, found.lower, found.upper, found.candidates) == (1.0, 1.0, 1.0, 3)
    alone = superior_ability(frame[["base_rate", "twin"]], "base_rate", draws=200)
    assert (alone.p_value, alone.gain) == (1.0, 0.0)
    skilled = frame.assign(gru=losses(250, {"gru": 0.01}, seed)["gru"])
    assert superior_ability(skilled, "base_rate", draws=200).p_value < 0.05


def test_superior_ability_is_the_librarys_with_the_given_seed_and_block() -> None:
    frame = losses(200, {"gru": 0.002, "lstm": 0.0}, seed=1)
    other = SPA(
        frame["base_rate"], frame[["gru", "lstm"]], block_size=7, reps=300, seed=np.random.default_rng(4)
    )
    other.compute()
    found = superior_ability(frame, "base_rate", block_length=7, draws=300, seed=4)
    assert [found.lower, found.p_value, found.upper] == pytest.approx(other.pvalues.tolist())
    assert found.block_length == 7
    assert found == superior_ability(frame, "base_rate", block_length=7, draws=300, seed=4)


def test_the_set_is_the_librarys_with_the_given_seed_and_block() -> None:
    frame = losses(200, {"gru": 0.004, "lstm": 0.0}, seed=2)
    other = MCS(frame, size=0.1, block_size=5, reps=300, method="R", seed=np.random.default_rng(4))
    other.compute()
    found = find_confidence_set(frame, block_length=5, draws=300, seed=4)
    assert set(found.members) == set(other.included)
    assert found.p_values == pytest.approx(other.pvalues["Pvalue"].to_dict())


def test_a_planted_gain_is_found_and_alone_in_the_set() -> None:
    frame = losses(500, {"gru": 0.01, "lstm": 0.0, "rnn": -0.01}, seed=3)
    found = superior_ability(frame, "base_rate", draws=500)
    assert (found.best, found.candidates, found.sessions) == ("gru", 3, 500)
    assert found.gain == pytest.approx(frame["base_rate"].mean() - frame["gru"].mean())
    assert found.p_value < 0.01
    assert find_confidence_set(frame, draws=500).members == ("gru",)


@pytest.mark.slow
def test_the_luckiest_of_forty_is_no_finding() -> None:
    p_values, naive = [], []
    for seed in range(40):
        frame = losses(120, {f"try {k}": 0.0 for k in range(40)}, seed=100 + seed)
        found = superior_ability(frame, "base_rate", block_length=1, draws=200, seed=seed)
        p_values.append(found.p_value)
        alone = significance.diebold_mariano((frame["base_rate"] - frame[found.best]).to_numpy())
        naive.append(alone.p_value)
    assert np.mean(np.array(p_values) < 0.05) <= 0.15
    assert np.mean(np.array(naive) < 0.05) > 0.2


def test_equals_stay_in_the_set_together_and_twins_share_a_fate() -> None:
    frame = losses(200, {"gru": 0.0, "poor": -0.02}, seed=5)
    frame["twin"] = frame["gru"]
    found = find_confidence_set(frame, draws=300)
    assert set(found.members) == {"base_rate", "gru", "twin"}
    assert found.p_values["twin"] == found.p_values["gru"]
    assert list(found.p_values) == [*frame.mean().sort_values(kind="stable").index]
    same = find_confidence_set(frame[["gru", "twin"]], draws=50)
    assert same.members == ("gru", "twin")


def test_blocks_are_as_long_as_dependence_and_overlap_ask_for() -> None:
    frame = losses(300, {"gru": 0.0}, seed=6)
    assert choose_common_block_length(frame) >= 1
    smooth = frame.rolling(20, min_periods=1).mean()
    assert choose_common_block_length(smooth) > 5
    assert superior_ability(frame, "base_rate", horizon=20, draws=50).block_length >= 20


def test_too_little_to_choose_from_is_refused() -> None:
    frame = losses(30, {"gru": 0.0}, seed=7)
    with pytest.raises(NextdayError, match="no forecast by 'lstm'"):
        superior_ability(frame, "lstm")
    with pytest.raises(NextdayError, match="two models or more"):
        find_confidence_set(frame[["gru"]])
    with pytest.raises(NextdayError, match="needs 50 sessions; there are 30"):
        find_confidence_set(frame, horizon=5)
