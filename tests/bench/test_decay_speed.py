"""The decay alarm on five years of 500 symbols, both tests and the floor of the backtest."""

import time

import numpy as np
import pandas as pd
import pytest

from pipeline.evaluation.verdict import BASE_RATE
from pipeline.monitoring.decay import judge_decay, measure_floor
from pipeline.outputs import MAIN

SESSIONS, SYMBOLS = 1260, 500


@pytest.mark.bench
def test_five_years_of_500_symbols_are_judged_in_two_seconds() -> None:
    rng = np.random.default_rng(0)
    days = np.repeat(pd.bdate_range("2020-01-01", periods=SESSIONS), SYMBOLS)
    record = pd.DataFrame({"as_of": days, "symbol": np.tile(np.arange(SYMBOLS).astype(str), SESSIONS)}).assign(
        target="direction", horizon=1, kind="live", model_version="m", issued_at=days, baseline_p_up=0.53,
        p_up=0.53 + 0.02 * rng.standard_normal(len(days)), outcome=rng.integers(0, 2, len(days)).astype(float),
    )  # fmt: skip
    test = record[record["as_of"] >= record["as_of"].iloc[-504 * SYMBOLS]].assign(model="gru")
    rows = pd.concat([test, test.assign(model=BASE_RATE, p_up=0.53)], ignore_index=True)
    begun = time.process_time()
    floor = measure_floor(rows, "gru", BASE_RATE, MAIN)
    judge_decay(record, MAIN, {"m": floor})
    taken = time.process_time() - begun
    print(f"decay alarm of 5 years x 500 symbols: {taken:.2f} s")
    assert taken < 2
