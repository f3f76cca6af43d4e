"""Drift of the inputs: what scipy and a pencil give, and when a difference is said to be unusual."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp

from pipeline.monitoring.drift import RECENT, describe_drift, measure_drift


def made(shift: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((4, 1000, 2)).astype(np.float32)
    x[:, -RECENT:, 1] += shift
    return x, np.ones(x.shape[:2], dtype=bool)


def test_a_shift_is_named_and_the_other_feature_is_not() -> None:
    x, mask = made(1.0)
    drift = measure_drift(x, mask, ["a", "b"], 900)
    assert drift["feature"].tolist() == ["b", "a"]
    assert drift.loc[0, "ks"] == pytest.approx(
        ks_2samp(x[:, -RECENT:, 1].ravel(), x[:, :900, 1].ravel()).statistic
    )
    assert drift.loc[0, "blocks"] == 0
    said = describe_drift(drift)
    assert "b (PSI" in said
    assert "a (PSI" not in said
    assert "proves none" in said


def test_the_stability_index_of_a_known_shift() -> None:
    """Two equal halves that become a quarter and three quarters: 0.25 ln 3 + ... = 0.2747 (Siddiqi's formula)."""
    training = np.tile([0.0, 1.0], 2000)
    recent = np.tile([0.0, 1.0, 1.0, 1.0], RECENT // 4)
    x = np.concatenate([training, recent])[None, :, None]
    drift = measure_drift(x, np.ones(x.shape[:2], dtype=bool), ["a"], len(training))
    assert drift.loc[0, "psi"] == pytest.approx(0.25 * np.log(2) + 0.25 * np.log(1.5), abs=1e-9)


def test_stable_inputs_are_within_what_the_training_shows() -> None:
    x, mask = made(0.0, seed=3)
    assert "lie within" in describe_drift(measure_drift(x, mask, ["a", "b"], 940))


def test_rows_that_are_masked_do_not_count_and_little_history_says_nothing() -> None:
    x, mask = made(0.0)
    x[0], mask[0] = np.nan, False
    assert measure_drift(x, mask, ["a", "b"], 900)["ks"].notna().all()
    assert measure_drift(x, mask, ["a", "b"], 3 * RECENT).empty
    assert measure_drift(x[:, : RECENT - 1], mask[:, : RECENT - 1], ["a", "b"], 900).empty
    mask[:, -RECENT:] = False
    assert measure_drift(x, mask, ["a", "b"], 900).empty
    assert describe_drift(pd.DataFrame(columns=["feature", "psi", "ks", "blocks"])) == ""
