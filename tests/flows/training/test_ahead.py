"""The networks of a walk's coming folds are on their way while one is worked on; nothing else is any different."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flows.runtime.context import Run, open_run
from flows.runtime.progress import PlainProgress, progress_shown_by
from flows.training import model_factory, walk_forward
from flows.training.compute import Compute, choose_processes
from flows.training.walk_forward import walk_history
from models.errors import ModelError
from models.training import jobs
from models.training.trainer import DivergenceError
from pipeline.forecasting.folds import Fold, walk_folds
from tests.bench.market import DAYS
from tests.support.made_sequences import sequences_of

pytestmark = [pytest.mark.slow, pytest.mark.own_process]

SYMBOLS, SESSIONS, MEMBERS = 3, 440, 2
SETTINGS = f"""
[model]
units = 2
members = {MEMBERS}
lookback = 3
[training]
epochs = 2
stop_sessions = 20
calibrate_sessions = 20
[backtest]
train_sessions = 200
refit_sessions = 40
"""


class Kept(PlainProgress):
    """Keeps the lines."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def log_line(self, line: str) -> None:
        self.lines.append(line)


class MadeMarket:
    """A run, its made-up history and its folds."""

    def __init__(
        self, folder: Path, settings: str = SETTINGS, symbols: int = SYMBOLS, sessions: int = SESSIONS
    ) -> None:
        (folder / "nextday.toml").write_text(settings)
        self.run: Run = open_run(folder / "nextday.toml", folder / "home", datetime(2019, 6, 1, tzinfo=UTC))
        features, rng = tuple(self.run.feature_set().columns), np.random.default_rng(0)
        shape = symbols, sessions
        self.known: Any = SimpleNamespace(
            sequences=sequences_of(
                *(rng.standard_normal((*shape, len(features)), dtype=np.float32), np.ones(shape, bool)),
                *((rng.random((*shape, 1)) < 0.5).astype(np.float32), tuple(f"S{n}" for n in range(symbols))),
                *(DAYS.sessions[:sessions], (1,), features),
            ),
        )
        config = self.run.config
        self.folds: list[Fold] = walk_folds(
            self.known.sequences, config.evaluation, config.training, config.backtest
        )

    def walk(self, workshop: Compute) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
        """Return the test rows, the epochs and what was said."""
        kept = Kept()
        with progress_shown_by(kept):
            found, epochs = walk_history.fn(self.run, self.known, self.folds, workshop)
        return found.test, epochs, kept.lines


class Crew(ThreadPoolExecutor):
    """Workers that note how many jobs were handed to them and not done at a time.

    Args:
        workers: How many.
        idle_until: No job is begun before so many are there.
    """

    def __init__(self, workers: int, idle_until: int = 0) -> None:
        super().__init__(workers)
        self.jobs: list[Future[Any]] = []
        self.most, self._idle_until, self._begin = 0, idle_until, threading.Event()

    def submit(self, fn, /, *args, **kwargs):  # type: ignore[no-untyped-def]
        def work():  # type: ignore[no-untyped-def]
            assert self._begin.wait(60)
            return fn(*args, **kwargs)

        self.jobs.append(super().submit(work))
        self.most = max(self.most, sum(not job.done() for job in self.jobs))
        if len(self.jobs) >= self._idle_until:
            self._begin.set()
        return self.jobs[-1]


@pytest.fixture(autouse=True, scope="module")
def few_baselines() -> Iterator[None]:
    """Rules alone: the small models take most of the time, and are none of the walk's."""
    made = model_factory.make_baselines
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walk_forward, "make_baselines", lambda *given: dict(list(made(*given).items())[:2]))
        yield


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> MadeMarket:
    return MadeMarket(tmp_path_factory.mktemp("market"))


@pytest.fixture(scope="module")
def in_turn(market: MadeMarket) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """What this process alone comes to, fold after fold."""
    return market.walk(Compute())


@pytest.mark.parametrize(("workers", "folds"), [(1, 2), (5, 4)])
def test_every_worker_has_work_while_one_fold_is_waited_for(
    market: MadeMarket, tmp_path: Path, workers: int, folds: int
) -> None:
    with Crew(workers, idle_until=folds * MEMBERS) as crew:
        market.walk(Compute(crew, workers, tmp_path))
    assert crew.most == folds * MEMBERS > workers
    assert len(crew.jobs) == len(market.folds) * MEMBERS
    assert list(tmp_path.iterdir()) == []


def test_what_is_begun_ahead_comes_to_the_same_bit_for_bit_and_is_told_fold_by_fold(
    market: MadeMarket, in_turn: tuple[pd.DataFrame, pd.DataFrame, list[str]], tmp_path: Path
) -> None:
    with Crew(3) as crew:
        rows, epochs, lines = market.walk(Compute(crew, 3, tmp_path, checkpoints=tmp_path / "kept"))
    pd.testing.assert_frame_equal(rows, in_turn[0], check_exact=True)
    pd.testing.assert_frame_equal(epochs, in_turn[1], check_exact=True)
    heads = [line.split("  ")[0] for line in lines]
    assert heads == [line.split("  ")[0] for line in in_turn[2]]
    assert len([*(tmp_path / "kept").glob("*.npz")]) == len(market.folds) * MEMBERS
    with Crew(3) as crew:
        again, _, _ = market.walk(Compute(crew, 3, tmp_path, checkpoints=tmp_path / "kept"))
        assert crew.jobs == []
    pd.testing.assert_frame_equal(again, rows, check_exact=True)


def test_what_cannot_be_begun_ahead_is_tried_again_at_its_turn(
    market: MadeMarket,
    in_turn: tuple[pd.DataFrame, pd.DataFrame, list[str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    begin, crowded = walk_forward._submit, []

    def begin_in_a_crowd(run: Run, known: Any, fold: Fold, *rest: Any) -> Any:
        if fold is market.folds[2] and not crowded:
            crowded.append(fold)
            raise ModelError("the training data cannot be written")
        return begin(run, known, fold, *rest)

    monkeypatch.setattr(walk_forward, "_submit", begin_in_a_crowd)
    with Crew(3) as crew:
        rows, _, _ = market.walk(Compute(crew, 3, tmp_path))
    assert crowded
    pd.testing.assert_frame_equal(rows, in_turn[0], check_exact=True)


def test_what_was_begun_ahead_is_kept_though_the_walk_never_comes_to_it(
    market: MadeMarket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*arguments: object) -> None:
        for job in crew.jobs:
            job.result()
        raise KeyboardInterrupt

    with Crew(3) as crew:
        monkeypatch.setattr(walk_forward, "_walk", interrupted)
        with pytest.raises(KeyboardInterrupt):
            market.walk(Compute(crew, 3, tmp_path, checkpoints=tmp_path / "kept"))
    assert len(crew.jobs) == 3 * MEMBERS
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert len([*(tmp_path / "kept").iterdir()]) == 3 * MEMBERS


def test_the_first_fold_that_diverges_ends_the_walk_and_takes_the_later_ones_along(
    market: MadeMarket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    train, places, is_over = jobs.train_from_files, [], threading.Event()

    def diverging(place: str, job: jobs.Job) -> jobs.Run:
        places.append(place)
        fold = len(set(places))  # one worker does them in their order
        if fold == 2:
            raise DivergenceError("diverged in the second fold", seed=job.seed)
        if fold == 3:
            assert is_over.wait(60)
        return train(place, job)

    monkeypatch.setattr(jobs, "train_from_files", diverging)
    with Crew(1) as crew:
        with pytest.raises(DivergenceError, match="in the second fold"):
            market.walk(Compute(crew, 1, tmp_path, checkpoints=tmp_path / "kept"))
        first, *others = crew.jobs[-MEMBERS:]
        assert first.running() or first.cancelled()  # whether the only worker had begun it by then
        assert all(job.cancelled() for job in others)
        is_over.set()
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert len([*(tmp_path / "kept").iterdir()]) == MEMBERS


def test_a_disk_that_has_no_room_for_a_kept_training_ends_the_walk(
    market: MadeMarket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "kept").write_text("a file stands where the folder should be")
    with Crew(2) as crew, pytest.raises(ModelError, match="cannot be saved"):
        market.walk(Compute(crew, 2, tmp_path, checkpoints=tmp_path / "kept"))


@pytest.mark.parametrize("workshop", [Compute(), Compute(ThreadPoolExecutor(1), 4)])
def test_a_fit_that_goes_on_from_another_waits_for_it_and_so_does_all_that_is_trained_here(
    market: MadeMarket, workshop: Compute
) -> None:
    warm = market.run.config.training.model_copy(update={"warm_start": True})
    run = replace(market.run, config=market.run.config.model_copy(update={"training": warm}))
    assert walk_forward._count_ahead(run, workshop, MEMBERS) == 0
    assert walk_forward.fits_at_once(run, market.folds) == 1
    if workshop.executor is None:
        assert walk_forward._count_ahead(market.run, workshop, MEMBERS) == 0
    else:
        workshop.executor.shutdown()


def test_a_walk_has_work_for_more_processes_than_members(tmp_path: Path) -> None:
    market = MadeMarket(tmp_path, SETTINGS.replace("[training]", "[training]\nprocesses = 9"))
    block = market.known.sequences
    assert choose_processes(market.run, block) == MEMBERS
    assert choose_processes(market.run, block, walk_forward.fits_at_once(market.run, market.folds)) == 9


def test_symbols_with_models_of_their_own_are_trained_ahead_too(tmp_path: Path) -> None:
    market = MadeMarket(tmp_path, SETTINGS.replace("[model]", '[model]\nscope = "symbol"'))
    alone = market.walk(Compute())[0]
    with Crew(2, idle_until=2 * MEMBERS * SYMBOLS) as crew:
        rows = market.walk(Compute(crew, 2, tmp_path))[0]
    pd.testing.assert_frame_equal(rows, alone, check_exact=True)
