"""The rolling hit rate and its interval."""

import numpy as np
import pandas as pd

from pipeline.evaluation.rolling import ROLLING, roll_hit_rate
from tests.pipeline.report.test_files import DAYS, told


def test_with_one_symbol_the_rolling_interval_is_that_of_a_mean() -> None:
    rows = told("gru", 5).head(len(DAYS))
    hits = ((rows["p_up"] > 0.5) == (rows["outcome"] == 1)).astype(float).rolling(ROLLING)
    table = roll_hit_rate(rows, rows)
    assert len(table) == len(DAYS) - ROLLING + 1
    np.testing.assert_allclose(table["rate"], hits.mean().dropna())
    np.testing.assert_allclose(table["high"] - table["rate"], 1.96 * hits.sem().dropna(), atol=1e-9)
    np.testing.assert_allclose(table["baseline_rate"], table["rate"])


def test_symbols_that_move_as_one_do_not_narrow_the_rolling_interval() -> None:
    rows = told("gru", 5).head(len(DAYS))
    twins = pd.concat([rows, rows.assign(symbol="TWIN"), rows.assign(symbol="THIRD")])
    pd.testing.assert_frame_equal(roll_hit_rate(twins, twins), roll_hit_rate(rows, rows))
