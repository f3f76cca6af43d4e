"""Verdicts on planted truths."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pipeline.evaluation.scores import score
from pipeline.evaluation.verdict import (
    ENOUGH_SESSIONS,
    Verdict,
    compare_with_window,
    find_best_methods,
    judge,
)
from pipeline.statistics import metrics, significance
from tests.pipeline.evaluation.test_scores import stack, truth


def test_a_planted_edge_is_found() -> None:
    keys, p = truth(300, 6, seed=1, signal=0.08)
    verdict = judge(stack(keys, gru=p, base_rate=0.53), model="gru", baseline="base_rate")
    assert verdict.conclusion == "edge"
    # The expected gain is the difference of the entropies: what the forecast knows.
    gain = -sum(q * math.log(q) for q in (0.53, 0.47))
    gain += sum(0.5 * q * math.log(q) for q in (0.61, 0.39, 0.45, 0.55))
    assert verdict.low <= gain <= verdict.high
    assert (verdict.n, verdict.sessions) == (1800, 300)
    assert verdict.sentence.startswith(
        "Edge: over 300 sessions (1,800 forecasts) gru's log loss is lower than base_rate's by 0."
    )


def test_a_worse_model_is_called_worse_and_the_sentence_turns_round() -> None:
    keys, p = truth(300, 6, seed=2, signal=0.08)
    verdict = judge(stack(keys, gru=1 - p, base_rate=0.53), model="gru", baseline="base_rate")
    assert verdict.conclusion == "worse than the baseline"
    assert verdict.low <= verdict.difference <= verdict.high < 0
    assert f"higher than base_rate's by {-verdict.difference:.4f} [{-verdict.high:.4f}, " in verdict.sentence


def test_a_model_equal_to_the_base_rate_has_no_edge_over_a_bad_rule() -> None:
    keys, _ = truth(400, 6, seed=8, signal=0.0)
    nearly = 0.53 + 1e-3 * np.random.default_rng(1).standard_normal(len(keys))
    rows = stack(keys, gru=nearly, last_sign=np.where(np.arange(len(keys)) % 2, 0.75, 0.25), base_rate=0.53)
    verdict = judge(rows, model="gru", baseline="last_sign")
    assert verdict.conclusion == "no edge found"
    assert verdict.low > 0
    assert verdict.p_value < 0.05
    assert "the 95% interval excludes zero (" in verdict.sentence
    assert "Compared with the base rate on the same rows: no improvement" in verdict.sentence
    without = judge(rows[rows["model"] != "base_rate"], model="gru", baseline="last_sign")
    assert without.conclusion == "edge"
    skilled = stack(keys, gru=0.2 + 0.6 * keys["outcome"], last_sign=0.5, base_rate=0.53)
    assert judge(skilled, model="gru", baseline="last_sign").conclusion == "edge"


def test_identical_forecasts_are_no_edge() -> None:
    keys, p = truth(120, 3, seed=3, signal=0.05)
    verdict = judge(stack(keys, gru=p, base_rate=p), model="gru", baseline="base_rate")
    assert verdict.conclusion == "no edge found"
    assert (verdict.difference, verdict.low, verdict.high, verdict.p_value) == (0, 0, 0, 1)
    assert "the 95% interval includes zero (Diebold-Mariano p = 1.000)" in verdict.sentence
    assert "About 3,860 independent forecasts are needed" in verdict.sentence


def test_one_session_too_few_is_not_enough_data_however_good_the_model() -> None:
    keys, p = truth(ENOUGH_SESSIONS, 20, seed=4, signal=0.3)
    rows = stack(keys, gru=p, base_rate=0.53)
    assert judge(rows, model="gru", baseline="base_rate").conclusion == "edge"
    short = rows[rows["target_session"] < rows["target_session"].max()]
    verdict = judge(short, model="gru", baseline="base_rate")
    assert verdict.conclusion == "not enough data"
    assert verdict.sessions == ENOUGH_SESSIONS - 1
    assert f"a verdict needs {ENOUGH_SESSIONS} sessions" in verdict.sentence


@pytest.mark.parametrize("sessions", [0, 1, 5])
def test_hardly_any_session_gives_a_sentence_without_nan(sessions: int) -> None:
    keys, p = truth(6, 2, seed=5, signal=0.1)
    rows = stack(keys, gru=p, base_rate=0.53)
    rows.loc[rows["target_session"] > keys["target_session"].unique()[sessions - 1], "outcome"] = np.nan
    rows["outcome"] = rows["outcome"] if sessions else np.nan
    verdict = judge(rows, model="gru", baseline="base_rate")
    assert (verdict.conclusion, verdict.sessions, verdict.n) == ("not enough data", sessions, 2 * sessions)
    assert "nan" not in verdict.sentence
    assert math.isnan(verdict.low)


@pytest.mark.slow
@pytest.mark.parametrize(("sign", "finding"), [(1, "edge"), (-1, "worse than the baseline")])
def test_a_verdict_needs_the_interval_and_the_test(sign: int, finding: str) -> None:
    verdicts = []
    for seed in range(60):
        keys, p = truth(70, 2, seed=200 + seed, signal=0.06)
        rows = stack(keys, gru=0.53 + sign * (p - 0.53), base_rate=0.53)
        verdicts.append(judge(rows, model="gru", baseline="base_rate", draws=200))
    outside = [v.low > 0 if sign > 0 else v.high < 0 for v in verdicts]
    rejected = [v.p_value < 0.05 for v in verdicts]
    agreed = [a and b for a, b in zip(outside, rejected, strict=True)]
    assert agreed != outside
    assert [v.conclusion == finding for v in verdicts] == agreed
    torn = [v.sentence for v, a, b in zip(verdicts, outside, rejected, strict=True) if a and not b]
    assert all("excludes zero, but the test does not reject" in sentence for sentence in torn)


def described(rows: pd.DataFrame) -> str:
    return judge(rows, model="gru", baseline="last_sign").sentence.split("Compared with the base rate ")[1]


def test_the_comparison_with_the_base_rate_says_what_is_beyond_chance() -> None:
    keys, p = truth(300, 6, seed=1, signal=0.08)
    better = described(stack(keys, gru=p, last_sign=0.5, base_rate=0.53))
    assert re.fullmatch(r"on the same rows: improvement \(\+0\.\d+ \[\+0\.\d+, \+0\.\d+\]\)\.", better)
    worse = described(stack(keys, gru=1 - p, last_sign=0.5, base_rate=0.53))
    assert worse.startswith("on the same rows: no improvement (-0.")
    y = keys["outcome"].to_numpy()
    hardly = 0.53 + 1.7e-3 * (y - 0.53) + 1e-2 * np.random.default_rng(3).standard_normal(len(y))
    rows = stack(keys, gru=hardly, last_sign=0.5, base_rate=0.53)
    assert described(rows).startswith("on the same rows: no improvement beyond chance (+0.")
    few = keys[keys["target_session"] <= keys["target_session"].unique()[4]]
    short = described(stack(few, gru=p[: len(few)], last_sign=0.5, base_rate=0.53))
    assert short == "on the same rows: no improvement (-0.0562)."  # no interval over 5 sessions


def test_a_tiny_p_value_is_named_as_such_and_one_session_in_the_singular() -> None:
    keys, p = truth(300, 20, seed=4, signal=0.3)
    assert judge(stack(keys, gru=p, base_rate=0.53), model="gru", baseline="base_rate").sentence.endswith(
        "excludes zero (Diebold-Mariano p < 0.001)."
    )
    for sessions, words in ((1, "over 1 session (2 forecasts)"), (2, "over 2 sessions (4 forecasts)")):
        keys, p = truth(sessions, 2, seed=5, signal=0.1)
        few = judge(stack(keys, gru=p, base_rate=0.53), model="gru", baseline="base_rate")
        assert words in few.sentence


def test_longer_horizons_are_tested_as_such() -> None:
    keys, p = truth(80, 3, seed=20, signal=0.05)
    verdict = judge(stack(keys.assign(horizon=5), gru=p, base_rate=0.53), model="gru", baseline="base_rate")
    y = keys["outcome"].to_numpy()
    gain = (metrics.log_losses(np.full(240, 0.53), y) - metrics.log_losses(p, y)).reshape(80, 3).mean(axis=1)
    assert verdict.p_value == pytest.approx(significance.diebold_mariano(gain, horizon=5).p_value)
    assert verdict.difference == pytest.approx(gain.mean())


def test_noise_is_found_no_more_often_than_chance_allows() -> None:
    findings = []
    for seed in range(20):
        keys, _ = truth(250, 4, seed=100 + seed)
        noise = np.random.default_rng(seed).uniform(0.48, 0.58, len(keys))
        rows = stack(keys, gru=noise, base_rate=0.53)
        findings.append(judge(rows, model="gru", baseline="base_rate", draws=300).conclusion)
    # Under a true null, at most 2.5% a draw: two or more of twenty happen once in eleven.
    assert findings.count("edge") <= 1
    assert "no edge found" in findings


def test_the_tests_are_diebold_mariano_on_session_means() -> None:
    keys, p = truth(80, 3, seed=8, signal=0.1)
    scores = score(stack(keys, gru=p, base_rate=0.53), baseline="base_rate", draws=50)
    y = keys["outcome"].to_numpy()
    p_values = scores[scores["model"] == "gru"].set_index("metric")["p_value"]
    losses = {
        "log_loss": -np.log(np.where(y == 1, p, 1 - p)) + np.log(np.where(y == 1, 0.53, 0.47)),
        "brier": (p - y) ** 2 - (0.53 - y) ** 2,
        "hit_rate": ((p > 0.5) == (y == 1)) * 1.0 - (y == 1),
    }
    for metric, difference in losses.items():
        expected = significance.diebold_mariano(difference.reshape(80, 3).mean(axis=1)).p_value
        assert p_values[metric] == pytest.approx(expected)
    assert p_values["brier_skill"] == p_values["brier"]


def test_a_difference_in_the_last_digits_is_no_edge() -> None:
    keys, _ = truth(200, 5, seed=21, signal=0.0)
    last_digits = 0.53 * (1 - 3e-16)
    verdict = judge(stack(keys, gru=last_digits, base_rate=0.53), model="gru", baseline="base_rate", draws=50)
    assert last_digits != 0.53
    lines = score(stack(keys, gru=last_digits, base_rate=0.53), baseline="base_rate", draws=50)
    p_values = lines.loc[lines["model"] == "gru"].set_index("metric")["p_value"]
    assert (p_values == 1).all()
    assert (verdict.conclusion, verdict.difference, verdict.p_value) == ("no edge found", 0, 1)


def test_beating_a_rule_that_failed_is_no_edge_where_the_base_rate_does_as_well() -> None:
    keys, _ = truth(300, 5, seed=22, signal=0.0)
    rows = stack(keys, gru=0.5, base_rate=0.5 + 1e-6, last_sign=np.where(np.arange(1500) % 2, 0.65, 0.35))
    verdict = judge(rows, model="gru", baseline="last_sign", draws=100)
    assert verdict.low > 0
    assert verdict.p_value < 0.05
    better = judge(rows[rows["model"] != "base_rate"], model="gru", baseline="last_sign", draws=100)
    assert better.conclusion == "edge"
    worse_than_base_rate = rows.assign(
        p_up=np.where(rows["model"] == "base_rate", rows["outcome"].mean(), rows["p_up"])
    )
    held = judge(worse_than_base_rate, model="gru", baseline="last_sign", draws=100)
    assert held.conclusion == "no edge found"
    assert "Compared with the base rate on the same rows: no improvement" in held.sentence


def test_a_small_difference_is_printed_with_the_digits_that_show_where_its_interval_ends() -> None:
    keys, p = truth(400, 6, seed=8, signal=0.0)
    nearly = p + 2e-4 * np.random.default_rng(1).standard_normal(len(keys))
    sentence = judge(stack(keys, gru=nearly, base_rate=p), model="gru", baseline="base_rate").sentence
    found = re.search(r"by (\S+) \[(\S+), (\S+)\] per session; the 95% interval includes zero", sentence)
    assert found
    value, low, high = map(float, found.groups())
    assert low < 0 < value < high < 1e-3


def judged(rows: pd.DataFrame) -> Verdict:
    among, compared = find_best_methods(rows, draws=300)
    return replace(judge(rows, model="gru", baseline="base_rate", draws=300), among=among, compared=compared)


def test_a_model_outside_the_confidence_set_is_told_with_the_methods_inside() -> None:
    keys, p = truth(300, 20, seed=4, signal=0.3)
    verdict = judged(stack(keys, gru=0.53, gradient_boosting=p, last_sign=0.5, base_rate=0.53))
    assert verdict.is_outside
    assert verdict.title == "no edge found, and not among the best methods"
    assert verdict.rivals == (
        "With 90% confidence the best of the 4 methods compared is gradient_boosting; gru is not (model confidence "
        'set). [model] kind = "boosting" forecasts with such a method.'
    )
    assert verdict.headline == f"{verdict.sentence} {verdict.rivals}"
    assert verdict.sentences == [verdict.headline]
    assert verdict.tags == {"verdict": "no edge found", "confidence_set": "outside: gradient_boosting"}
    assert Verdict.from_json(json.loads(json.dumps(verdict.to_json()))) == verdict


def test_a_model_among_the_best_has_the_headline_that_it_always_had() -> None:
    keys, p = truth(300, 20, seed=4, signal=0.3)
    verdict = judged(stack(keys, gru=p, gradient_boosting=p, base_rate=0.53))
    assert set(verdict.among) == {"gru", "gradient_boosting"}
    assert not verdict.is_outside
    assert (verdict.title, verdict.headline, verdict.rivals) == ("edge", verdict.sentence, "")


def test_too_few_sessions_name_no_best_method() -> None:
    keys, p = truth(ENOUGH_SESSIONS - 1, 20, seed=4, signal=0.3)
    verdict = judged(stack(keys, gru=0.53, gradient_boosting=p, base_rate=0.53))
    assert verdict.among == ()
    assert not verdict.is_outside
    assert "confidence_set" not in verdict.tags


def test_a_verdict_of_an_earlier_version_is_read() -> None:
    keys, p = truth(100, 5, seed=4, signal=0.3)
    former = judge(stack(keys, gru=p, base_rate=0.53), model="gru", baseline="base_rate", draws=50).to_json()
    del former["among"], former["compared"]
    assert Verdict.from_json(former).title == former["finding"]


def test_a_network_is_told_beside_a_linear_map_of_its_window() -> None:
    keys, p = truth(300, 20, seed=4, signal=0.3)
    better = compare_with_window(stack(keys, gru=p, logistic_window=0.53), model="gru", draws=200)
    assert better.startswith(
        "Beside a linear map of the same window (logistic_window): gru is better; log loss saved"
    )
    worse = compare_with_window(stack(keys, gru=0.53, logistic_window=p), model="gru", draws=200)
    assert ": gru is worse; log loss saved per session -0." in worse
    alike = compare_with_window(stack(keys, gru=p, logistic_window=p), model="gru", draws=200)
    assert ": no difference beyond chance; " in alike
    assert compare_with_window(stack(keys, gru=p, base_rate=0.53), model="gru") == ""
