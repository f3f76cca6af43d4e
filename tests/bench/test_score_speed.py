"""Scores, tests, groups and the report of 2.5 million forecasts, by nine methods, in processes of their own."""

import re
import sys
from pathlib import Path

import pytest

from tests.bench.stopwatch import clock
from tests.conftest import PROJECT

WORK = """
import time
import numpy as np, pandas as pd
from pipeline.evaluation.data_snooping import find_confidence_set, session_losses, superior_ability
from pipeline.evaluation.subgroups import score_groups
from pipeline.evaluation.scores import score
from pipeline.evaluation.verdict import best_baseline, judge

sessions, symbols, models = 5000, 500, 9
n, rng = sessions * symbols, np.random.default_rng(0)
days = pd.bdate_range("2000-01-03", periods=sessions + 1).as_unit("us")
up = (rng.normal(size=sessions).repeat(symbols) * 0.6 + rng.normal(size=n) * 0.8 > 0).astype(float)
names = pd.Index([f"S{i}" for i in range(symbols)])
rows = pd.DataFrame({
    "model": pd.Categorical.from_codes(np.repeat(np.arange(models), n), [f"m{i}" for i in range(models)]),
    "symbol": pd.Categorical.from_codes(np.tile(np.arange(symbols), sessions * models), names),
    "as_of": np.tile(days[:-1].repeat(symbols), models), "target_session": np.tile(days[1:].repeat(symbols), models),
    "horizon": 1, "p_up": 0.53 + 0.01 * rng.normal(size=n * models), "outcome": np.tile(up, models),
}, copy=False)
volatility = pd.Series(rng.gamma(2, 0.01, sessions), index=days[:-1])
begun = time.perf_counter()
for name, work in {
    "best baseline": lambda: best_baseline(rows),
    "scores": lambda: score(rows, baseline="m0"),
    "verdict": lambda: judge(rows, model="m1", baseline="m0"),
    "groups": lambda: score_groups(rows, model="m1", baseline="m0", volatility=volatility),
    "candidates": lambda: [test(session_losses(rows)) for test in (
        lambda losses: superior_ability(losses, "m0"), find_confidence_set)],
}.items():
    since = time.perf_counter()
    work()
    print(f"{name}: {time.perf_counter() - since:.1f} s", flush=True)
print("seconds", time.perf_counter() - begun)
"""


@pytest.mark.bench
def test_scores_and_tests_of_500_symbols_and_5000_sessions_take_90_seconds_and_4_gb_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    lap = clock((sys.executable, "-c", WORK), tmp_path)
    print(f"\n{lap.said}cpu {lap.cpu:.1f} s, peak {lap.peak:.0f} MB")
    assert float(lap.said.rsplit("seconds", 1)[1]) <= 90
    assert lap.peak <= 4000


@pytest.mark.bench
def test_scores_tests_and_report_of_as_many_take_90_seconds_and_4_gb_above_the_imports_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flow itself, from the end of the walk to the last file; the walk's own rows are in memory meanwhile."""
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    lap = clock((sys.executable, "-m", "tests.bench.large_backtest", str(tmp_path)), tmp_path)
    said = re.search(r"imports (\d+) MB, from the walk on ([\d.]+) seconds", lap.said)
    assert said, lap.said[-2000:]
    imports, seconds = map(float, said.groups())
    sizes = {file.name: f"{file.stat().st_size / 1e6:.1f} MB" for file in (tmp_path / "out").iterdir()}
    print(f"\n{seconds:.1f} s, peak {lap.peak:.0f} MB, {lap.peak - imports:.0f} above the imports; {sizes}")
    assert seconds <= 90
    assert lap.peak - imports <= 4000
    assert (tmp_path / "out" / "report.html").stat().st_size < 2e6
