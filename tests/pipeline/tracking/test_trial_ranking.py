"""The best of many trials is reported together with what luck alone would give."""

from dataclasses import replace
from tomllib import loads

import numpy as np
import pytest

from pipeline.tracking.trial_ranking import compare, rank, toml_lines
from pipeline.tracking.trials import Trial
from tests.pipeline.tracking.test_trials import trial

SESSIONS = 200


def of_losses(number: int, losses: np.ndarray, state: str = "complete") -> Trial:
    objective = float(losses.mean()) if len(losses) else None
    made = trial(number, losses=tuple(losses.tolist()), objective=objective, sessions=len(losses))
    return replace(made, state=state)  # type: ignore[arg-type]


def alike(count: int, seed: int, gain: float = 0.0) -> list[Trial]:
    """Return trials whose losses differ from the first one's by noise alone, the last one's by a gain too."""
    rng = np.random.default_rng(seed)
    losses = 0.69 + rng.normal(0, 0.05, SESSIONS)
    noise = rng.normal(0, 0.02, (count, SESSIONS))
    noise[0] = 0
    noise[-1] -= gain
    return [of_losses(number, losses + noise[number]) for number in range(count)]


def test_a_difference_has_the_interval_of_a_mean_of_independent_sessions() -> None:
    configured, other = alike(2, seed=1)
    found = compare(other, configured)
    difference = np.array(configured.losses) - np.array(other.losses)
    error = difference.std(ddof=1) / np.sqrt(SESSIONS)
    assert found.saved == pytest.approx(difference.mean())
    assert found.error == pytest.approx(error, rel=0.15)
    assert found.low == pytest.approx(difference.mean() - 1.96 * error, abs=0.4 * error)
    assert found.high == pytest.approx(difference.mean() + 1.96 * error, abs=0.4 * error)


@pytest.mark.slow
def test_luck_is_what_the_best_of_equals_seems_to_save_and_that_is_no_evidence() -> None:
    """Over 20 searches without any gain, the mean of the estimated luck equals the mean saving of the best trial."""
    searches = [rank(alike(13, seed)) for seed in range(20)]
    best = np.mean([max(each.saved for each in one.comparisons if each.trial.number) for one in searches])
    luck = np.mean([one.luck for one in searches])
    # The best of 12 has a standard deviation of 0.57 standard errors, a thirteenth of its mean over 20 searches.
    assert luck == pytest.approx(best, rel=0.2)
    assert any("no evidence" in one.sentence for one in searches)


def test_a_real_gain_is_more_than_luck_and_only_the_test_decides() -> None:
    found = rank(alike(13, seed=3, gain=0.01))
    assert found.best.trial.number == 12
    assert found.best.saved == pytest.approx(0.01, abs=0.003)
    assert "only the untouched test decides" in found.sentence


def test_where_nothing_is_better_nothing_is_to_be_changed() -> None:
    losses = np.linspace(0.6, 0.8, SESSIONS)
    found = rank([of_losses(0, losses), of_losses(1, losses + 0.01)])
    assert found.best.trial.number == 0
    assert "nothing to change" in found.sentence


def test_pruned_trials_count_as_tried_and_failed_ones_do_not() -> None:
    configured, other = alike(2, seed=1)
    pruned, failed = of_losses(2, np.ones(200), "pruned"), of_losses(3, np.empty(0), "failed")
    found = rank([configured, other, pruned, failed])
    assert found.tried == 3
    assert [each.trial.number for each in found.comparisons] == sorted(
        (0, 1), key=lambda n: -(n == found.best.trial.number)
    )


def test_a_search_of_one_trial_says_that_nothing_was_compared() -> None:
    assert "Nothing was tried yet" in rank(alike(1, seed=1)).sentence


def test_the_lines_to_paste_are_toml_of_what_differs() -> None:
    configured = {
        "model.units": 16,
        "model.attention": False,
        "training.learning_rate": 3e-4,
        "model.kind": "gru",
    }
    chosen = {
        "model.units": 16,
        "model.attention": True,
        "training.learning_rate": 1.2e-05,
        "model.kind": "lstm",
    }
    lines = toml_lines(chosen, configured)
    assert lines == ["[model]", "attention = true", 'kind = "lstm"', "[training]", "learning_rate = 1.2e-05"]
    assert loads("\n".join(lines)) == {
        "model": {"attention": True, "kind": "lstm"},
        "training": {"learning_rate": 1.2e-05},
    }
    assert toml_lines(configured, configured) == []
