"""What context series brought: the paired difference is that of the losses, and its words follow its interval."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from pipeline.evaluation.context_gain import ContextGain, measure_gain
from pipeline.outputs import DIRECTION
from pipeline.schema import FORECAST_KEY
from pipeline.statistics.metrics import log_losses
from tests.pipeline.evaluation.test_scores import truth


def two_fits(better: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return forecasts with a signal and an outcome, and forecasts of the same rows with less of it."""
    keys, p = truth(200, 5, seed=3, signal=0.2)
    own = keys.assign(target=DIRECTION)[[*FORECAST_KEY, "outcome"]].assign(p_up=p)
    return own, own[FORECAST_KEY].assign(p_up=p + better * (0.5 - p))


def test_the_difference_is_the_mean_over_sessions_of_the_losses_saved() -> None:
    own, without = two_fits(1.0)
    found = measure_gain(own, without, ["^VIX", "^TNX"], seed=1)
    y = own["outcome"].to_numpy(float)
    saved = log_losses(without["p_up"].to_numpy(), y) - log_losses(own["p_up"].to_numpy(), y)
    assert found.difference == pytest.approx(pd.Series(saved).groupby(own["as_of"]).mean().mean())
    assert (found.sessions, found.n, found.symbols) == (200, 1000, ("^VIX", "^TNX"))
    assert found.low < found.difference < found.high
    assert found.conclusion == "better with it"
    assert "Context (^VIX, ^TNX): +0.0" in found.sentence
    assert "n = 1,000 over 200 validation sessions" in found.sentence
    worse = measure_gain(
        without.assign(outcome=own["outcome"]), own.drop(columns="outcome"), ["^VIX"], seed=1
    )
    assert (worse.difference, worse.conclusion) == (pytest.approx(-found.difference), "worse with it")


def test_equal_fits_differ_by_nothing_and_rows_of_one_alone_are_left_out() -> None:
    own, without = two_fits(0.0)
    found = measure_gain(own, without.iloc[:500], ["A"], seed=1)
    assert (found.difference, found.n) == (0, 500)
    assert found.conclusion == "no difference beyond chance"
    nothing = measure_gain(own.assign(outcome=np.nan), without, ["A"], seed=1)
    assert math.isnan(nothing.difference)
    assert "nothing is known of what it brought" in nothing.sentence


def test_it_is_kept_as_json() -> None:
    found = measure_gain(*two_fits(0.5), ["A"], seed=1)
    assert ContextGain.from_json(json.loads(json.dumps(found.to_json()))) == found
