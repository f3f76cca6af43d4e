"""A small universe to search in, and a network that is best at one learning rate."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flows.runtime.context import Run, open_run
from flows.search import objective, search
from flows.training.history import History, make_sequences
from models.prediction import Prediction
from pipeline.config import Config
from pipeline.market.calendar import Calendar
from pipeline.prices.ingest.quality import check
from tests.conftest import NOW, random_bars

SYMBOLS, SESSIONS = ("A", "B", "C"), 700
SETTINGS = """
[universe]
name = "u"
source = "files"
path = "prices.parquet"
historical = true
[model]
units = 4
members = 3
lookback = 5
[training]
epochs = 2
stop_sessions = 40
calibrate_sessions = 40
[evaluation]
test_sessions = 60
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, xnys: Calendar) -> Path:
    """Return a folder with settings, prices and a workspace that has stored them."""
    folder, sessions = tmp_path_factory.mktemp("search"), xnys.sessions[:SESSIONS]
    bars = [random_bars(sessions, seed).assign(symbol=symbol) for seed, symbol in enumerate(SYMBOLS)]
    table = pd.concat(bars).drop(columns=["adj_close"]).rename(columns={"session": "date"})
    table.to_parquet(folder / "prices.parquet")
    (folder / "nextday.toml").write_text(SETTINGS)
    return folder


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> Run:
    made = open_run(folder / "nextday.toml", tmp_path / "data", NOW)
    last = made.calendar.sessions[SESSIONS - 1]
    answers = [made.source.fetch(s, made.calendar.sessions[0], last, NOW) for s in made.universe.symbols]
    made.store.append(check(answers, made.calendar, last, source="files", historical=True).prices, run="test")
    return made


@pytest.fixture
def known(run: Run) -> History:
    return make_sequences.fn(run, run.calendar.sessions[SESSIONS - 1], run.store.seq())


def chance_of(distance: float, x: np.ndarray) -> np.ndarray:
    """Return the fake network's forecasts: the worse, the larger its distance from the best settings."""
    return 1 / (1 + np.exp(-0.3 * distance - x[:, :, 0]))


@dataclass(frozen=True)
class Fake:
    """A network that is best at a learning rate of 0.001, and records its inputs."""

    config: Config
    seen: list[tuple[Any, ...]]
    base_rate: tuple[float, ...] = (0.5,)
    threshold: tuple[float, ...] = (0.0,)

    def fit(self, x: np.ndarray, mask: np.ndarray, y: np.ndarray, **ranges: Any) -> "Fake":
        self.seen.append((self.config, x.copy(), mask.copy(), y.copy(), ranges))
        return self

    def first_session(self, row: int) -> int:
        return max(row - self.config.model.lookback + 1, 0)

    def predict(self, x: np.ndarray, mask: np.ndarray) -> Prediction:
        distance = abs(np.log(self.config.training.learning_rate / 0.001))
        p_up = np.where(mask, chance_of(distance, x), np.nan)[:, :, None]
        return Prediction(p_up, p_up, p_up)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Let searches fit the fake network, and return its recorded inputs."""
    given: list[tuple[Any, ...]] = []
    monkeypatch.setattr(objective, "make_recipe", lambda run, *_: Fake(run.config, given))
    monkeypatch.setattr(search, "Processes", nullcontext)  # another process would keep its record
    return given
