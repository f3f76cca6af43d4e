import statistics
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from pipeline.ledger.ledger import Ledger

SYMBOLS = [f"S{n:03d}" for n in range(500)]
EVENING = datetime(2018, 1, 1, 22, tzinfo=UTC)


def evening(day: int) -> pd.DataFrame:
    frame = pd.DataFrame({"symbol": SYMBOLS}).assign(
        as_of=pd.Timestamp(2018, 1, 1) + timedelta(days=day), target_session=pd.Timestamp(2019, 1, 1), horizon=1,
        model_version="gru-1", issued_at=EVENING + timedelta(days=day), p_up=0.52, low=0.49, high=0.55,
        direction="up", baseline_p_up=0.53, last_close=100.0, data_version=7, config_digest="c0ffee",
        role="champion",
    )  # fmt: skip
    return frame.astype(
        {"as_of": "datetime64[us]", "target_session": "datetime64[us]", "issued_at": "datetime64[us, UTC]"}
    )


@pytest.mark.bench
def test_a_year_of_500_symbols_is_issued_and_verified_quickly(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    seconds = []
    for day in range(250):
        asked = evening(day)
        start = time.perf_counter()
        ledger.issue(asked, universe="bench", opens={}, newest_observed_at=EVENING, historical=True)
        seconds.append(time.perf_counter() - start)
    start = time.perf_counter()
    assert ledger.verify().forecasts == 125_000
    verified = time.perf_counter() - start
    print(
        f"\nissue 500 rows: median {statistics.median(seconds) * 1e3:.0f} ms, max {max(seconds) * 1e3:.0f} ms"
    )
    print(f"verify 250 x 500 rows: {verified:.2f} s; file {ledger.path.stat().st_size / 1e6:.0f} MB")
    assert statistics.median(seconds) < 0.5
    assert verified < 10
