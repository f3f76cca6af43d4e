"""Finished fits of a custom model are kept: whatever they depend on has to be the same, and a kill costs one fit."""

import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.ensembles import kept_fits
from models.ensembles.custom_ensemble import CustomModel
from models.ensembles.kept_fits import KeptFits
from tests.conftest import PROJECT

RANGES = {"train": range(10, 120), "stop": range(122, 160), "calibrate": range(162, 200)}


class Wave:
    """The user's model: its only parameter is drawn with the seed."""

    fits = 0

    def __init__(self, phase: float = 0.0) -> None:
        self.phase = phase

    def fit(self, x: np.ndarray, mask: np.ndarray, y: np.ndarray, *, seed: int, **_: Any) -> "Wave":
        type(self).fits += 1
        return Wave(float(np.random.default_rng(seed).normal()))

    def predict(self, x: np.ndarray, mask: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return (0.5 + 0.4 * np.sin(x[..., :1] + self.phase))[rows].astype(float)

    def save(self, directory: Path) -> None:
        (directory / "phase.txt").write_text(f"{self.phase:.6f}")  # it keeps fewer digits than it has

    def load(self, directory: Path, horizons: int) -> "Wave":
        return Wave(float((directory / "phase.txt").read_text()))


def arrays(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((3, 200, 2)).astype(np.float32)
    return x, np.ones((3, 200), bool), (rng.random((3, 200, 1)) < 0.5).astype(np.float32)


@pytest.fixture
def fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, np.ndarray]]:
    """Fit an ensemble of two with kept fits; return how many fits that took, and what it forecasts."""

    def fitted(made_with: str = "code 1", seed: int = 5, data: int = 0) -> tuple[int, np.ndarray]:
        monkeypatch.setattr(Wave, "fits", 0)
        kept = KeptFits(tmp_path / "kept", made_with)
        made = CustomModel(Wave(), 3, members=2, kept=kept).fit(*arrays(data), **RANGES, seed=seed)
        return Wave.fits, made.predict(*arrays(data)[:2]).p_up

    return fitted


def test_a_finished_fit_is_loaded_and_forecasts_the_same(fit: Callable[..., tuple[int, np.ndarray]]) -> None:
    first, again = fit(), fit()
    assert (first[0], again[0]) == (2, 0)
    np.testing.assert_array_equal(first[1], again[1])


@pytest.mark.parametrize("change", [{"made_with": "code 2"}, {"data": 1}, {"seed": 9}])
def test_other_code_prices_or_seeds_are_fitted(
    fit: Callable[..., tuple[int, np.ndarray]], change: dict[str, Any]
) -> None:
    assert fit()[0] == 2
    assert fit(**change)[0] == 2
    assert fit(**change)[0] == 0


def test_other_ranges_and_libraries_are_fitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, given = KeptFits(tmp_path, "code"), arrays()

    def keep(train: range) -> Path:
        return kept.keep(given, train, RANGES["stop"], 1, lambda: Wave().save)

    first = keep(RANGES["train"])
    assert keep(RANGES["train"]) == first
    assert keep(range(11, 120)) != first
    monkeypatch.setattr(kept_fits, "_digest_libraries", lambda: "another scikit-learn")
    assert keep(RANGES["train"]) != first


def test_a_damaged_fit_is_done_again(fit: Callable[..., tuple[int, np.ndarray]], tmp_path: Path) -> None:
    fit()
    damaged = next((tmp_path / "kept").glob("*/fit/phase.txt"))
    damaged.write_text("0.1")
    assert fit()[0] == 1
    assert damaged.read_text() != "0.1"


KILLED = """
import os, signal
from pathlib import Path
from tests.models.ensembles.test_kept_fits import RANGES, CustomModel, KeptFits, Wave, arrays

class Killed(Wave):
    def fit(self, *given, seed, **further):
        if seed == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().fit(*given, seed=seed, **further)

kept = KeptFits(Path("kept"), "code 1")
CustomModel(Killed(), 3, members=4, kept=kept).fit(*arrays(), **RANGES, seed=5)
"""


def test_a_killed_walk_goes_on_at_the_fit_that_was_not_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {"PYTHONPATH": str(PROJECT), "PATH": ""}
    run = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, env=environment, check=False)
    assert run.returncode == -signal.SIGKILL
    assert len([*(tmp_path / "kept").glob("[!.]*")]) == 2
    whole = CustomModel(Wave(), 3, members=4, kept=KeptFits(tmp_path / "whole", "code 1"))
    never_killed = whole.fit(*arrays(), **RANGES, seed=5)
    monkeypatch.setattr(Wave, "fits", 0)
    again = replace(whole, kept=KeptFits(tmp_path / "kept", "code 1")).fit(*arrays(), **RANGES, seed=5)
    assert Wave.fits == 2
    np.testing.assert_array_equal(again.predict(*arrays()[:2]).p_up, never_killed.predict(*arrays()[:2]).p_up)
