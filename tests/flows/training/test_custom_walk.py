"""The interrupted walk of a custom model goes on at the first member that is not fitted yet."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from flows.training.compute import Compute
from tests.flows.training.test_ahead import MadeMarket, few_baselines

pytestmark = [pytest.mark.slow, pytest.mark.own_process]

FEW_BASELINES = few_baselines
MODEL = """
import json
from pathlib import Path
import numpy as np

LOG = Path(__file__).with_name("fits.txt")

class Mean:
    def __init__(self, strength=1.0):
        self.strength = strength

    def fit(self, x, mask, y, *, train, stop, seed):
        done = LOG.read_text().split() if LOG.exists() else []
        if len(done) == 3 and not LOG.with_name("resumed").exists():
            raise KeyboardInterrupt
        LOG.write_text(" ".join([*done, f"{train.stop}-{seed}"]))
        self.shift = float(np.nanmean(y) + 1e-3 * seed)
        return self

    def predict(self, x, mask):
        return 1 / (1 + np.exp(-0.1 * self.strength * x[:, :, 0] - self.shift))

    def save(self, directory):
        (directory / "mean.json").write_text(json.dumps([self.strength, self.shift]))

    @classmethod
    def load(cls, directory):
        strength, shift = json.loads((directory / "mean.json").read_text())
        model = cls(strength)
        model.shift = shift
        return model
"""
SETTINGS = """
[model]
kind = "walked:Mean"
members = 2
lookback = 3
[training]
stop_sessions = 20
calibrate_sessions = 20
[backtest]
train_sessions = 200
refit_sessions = 40
"""


def test_finished_members_of_an_interrupted_walk_are_not_fitted_again(own_modules: Path) -> None:
    (own_modules / "walked.py").write_text(MODEL)
    market = MadeMarket(own_modules, SETTINGS)
    log, compute = own_modules / "fits.txt", Compute(checkpoints=own_modules / "cache")
    with pytest.raises(KeyboardInterrupt):
        market.walk(compute)
    assert len(log.read_text().split()) == 3
    (own_modules / "resumed").touch()
    rows, _, _ = market.walk(compute)
    fits = log.read_text().split()
    assert len(fits) == len({*fits}) == 2 * len(market.folds)
    again, _, _ = market.walk(Compute(checkpoints=own_modules / "another"))
    pd.testing.assert_frame_equal(rows, again)
    fits = log.read_text().split()
    assert len(fits) == 4 * len(market.folds)
    model = market.run.config.model.model_copy(update={"options": {"strength": 2.0}})
    market.run = replace(market.run, config=market.run.config.model_copy(update={"model": model}))
    market.walk(compute)
    assert len(log.read_text().split()) == 6 * len(market.folds)  # another option is another model
