"""What the settings of docs/training.md change that are off by default: log loss saved per session, in pairs.

Each is switched on alone and compared with the shipped recipe on the same rows, before 2010 and from 2010 on.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pytest

from flows.search.space import with_parameters
from flows.training.compute import Compute
from flows.training.history import make_sequences
from flows.training.model_factory import make_recipe
from models.training.process_pool import LocalWorkers
from pipeline.features.feature_sets import FEATURE_SETS
from pipeline.forecasting.folds import walk_folds
from pipeline.forecasting.model import fit
from pipeline.forecasting.walk_forward import mask_labels
from pipeline.outputs import Output
from tests.bench.quality.test_recipe import PANELS, Forecasts, opened, tell

pytestmark = pytest.mark.bench

OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "adversarial = 0.1": {"training.adversarial": 0.1},
    "adversarial = 1": {"training.adversarial": 1.0},
    'sample_weight = "recent"': {"training.sample_weight": "recent"},
    'sample_weight = "volatility"': {"training.sample_weight": "volatility"},
}
CASES: Final = [
    ("sample", "direction"),
    ("acl18", "relative"),
    ("av500, 20 stocks", "direction"),
    ("google30y, 20 stocks", "direction"),
    ("av500, 20 stocks", "relative"),
    ("google30y, 20 stocks", "relative"),
]


@pytest.fixture(scope="module")
def workshop() -> Iterator[Compute]:
    with LocalWorkers(2) as workers:
        yield Compute(workers)


@pytest.mark.parametrize(("name", "target"), CASES, ids=lambda part: str(part).replace(" ", "-"))
def test_on_real_prices(name: str, target: str, datasets: Path, tmp_path: Path, workshop: Compute) -> None:
    """Print every pair in units of 0.0001; each setting has some effect."""
    run = opened(tmp_path, PANELS[name], "sequence", datasets)
    columns = FEATURE_SETS["own" if target == "direction" else "relative"]
    end = run.store.latest("session", pd.Timestamp(PANELS[name].until), symbols=run.universe.symbols)
    assert end is not None
    sequences = make_sequences.fn(run, end, run.store.seq(), columns, None, (Output(target, 1),)).sequences
    folds = walk_folds(sequences, run.config.evaluation, run.config.training, run.config.backtest)
    runs = {
        option: replace(run, config=with_parameters(run.config, changed))
        for option, changed in {"shipped": {}, **OPTIONS}.items()
    }
    forecasts = Forecasts(sequences, run)
    for fold in folds:
        inputs = mask_labels(sequences, fold, (0, 0), refit=True)
        for option, changed in runs.items():
            recipe = make_recipe(changed, columns, 1, lambda told: None, workshop)
            fitted = fit(recipe, inputs, fold, run.config.training.seed)
            forecasts.add(option, fitted, sequences, fold)
    print(f"\n{name}, {target}: {len(sequences.symbols)} symbols, {len(folds)} fits, ", end="")
    losses = forecasts.losses()
    print(f"from {losses.index[0]:%Y-%m-%d} to {losses.index[-1]:%Y-%m-%d}; 0.0001 saved per session")
    for option in OPTIONS:
        tell(losses, option, option, "shipped")
        assert (losses[option] != losses["shipped"]).any()
