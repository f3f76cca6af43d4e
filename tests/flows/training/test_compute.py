"""How many processes a training gets, what its bar shows, and that no run leaves a temporary file to the next."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from flows.backtest import backtest
from flows.evening.model_card import describe_agreement, describe_scope
from flows.nightly import nightly
from flows.retrain import retrain
from flows.runtime.context import Run, open_run
from flows.runtime.progress import PlainProgress, progress_shown_by
from flows.search.search import search
from flows.training import compute
from flows.training.compute import choose_processes, open_compute, require_gpu
from flows.training.epochs import epochs_shown
from flows.training.model_factory import choose_start
from flows.training.per_symbol import arrange, drop_skipped_symbols, explain_unmodelled
from models.training.process_pool import LocalWorkers
from pipeline.errors import InputError, NextdayError
from pipeline.forecasting.folds import Fold
from pipeline.forecasting.walk_forward import Walk
from pipeline.storage.workspace import Workspace

NOW = datetime(2018, 12, 10, 22, tzinfo=UTC)


class KeptLines(PlainProgress):
    """Keeps the lines."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def log_line(self, line: str) -> None:
        self.lines.append(line)


def run(folder: Path, settings: str = "") -> Run:
    (folder / "nextday.toml").write_text(settings)
    return open_run(folder / "nextday.toml", folder / "home", NOW)


def block(symbols: int, sessions: int) -> Any:
    shape = (symbols, sessions)
    return SimpleNamespace(
        symbols=[f"S{n}" for n in range(symbols)], x=np.zeros((*shape, 16)), mask=np.ones(shape, bool)
    )


def epoch(member: int, number: int, stop_loss: float, is_last: bool = False) -> Any:
    return SimpleNamespace(
        is_last=is_last,
        member=member, members=3, epoch=number, loss=0.7, stop_loss=stop_loss, stop_hit_rate=0.5,
        gradient_norm=0.1,
    )  # fmt: skip


def test_small_work_is_done_here_and_large_work_by_a_process_a_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compute, "count_cores", lambda: 4)
    assert choose_processes(run(tmp_path), block(2, 5000)) == 1
    assert choose_processes(run(tmp_path), block(500, 5000)) == 4
    assert choose_processes(run(tmp_path, "[model]\nmembers = 3"), block(500, 5000)) == 3
    assert choose_processes(run(tmp_path, "[training]\nprocesses = 2"), block(2, 300)) == 2
    assert choose_processes(run(tmp_path, "[training]\nprocesses = 9"), block(2, 300)) == 5
    by_symbol = '[model]\nscope = "symbol"\n[training]\nprocesses = 9'
    assert choose_processes(run(tmp_path, by_symbol), block(2, 300)) == 9
    assert choose_processes(run(tmp_path, "[training]\nprocesses = 1"), block(500, 5000)) == 1
    assert choose_processes(run(tmp_path, '[training]\ndevice = "gpu"'), block(500, 5000)) == 1


def test_a_training_on_a_gpu_has_a_process_of_its_own(tmp_path: Path) -> None:
    with open_compute(run(tmp_path, '[training]\ndevice = "gpu"'), block(2, 300)) as opened:
        assert isinstance(opened.executor, LocalWorkers)
        assert opened.executor.submit(os.getpid).result() != os.getpid()


@pytest.mark.parametrize("command", [nightly, retrain, backtest, search])
def test_a_gpu_that_is_missing_is_an_error_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[..., object]
) -> None:
    monkeypatch.setattr("models.devices.find_gpus", list)
    (tmp_path / "nextday.toml").write_text('[training]\ndevice = "gpu"')
    body = getattr(command, "fn", command)
    with pytest.raises(InputError, match="TensorFlow finds none on this machine") as refused:
        body(tmp_path / "nextday.toml", tmp_path / "home", NOW)
    assert refused.value.exit_code == 2
    assert refused.value.where == '[training] device = "gpu"'
    assert not (tmp_path / "home" / "prices").exists()


def test_with_a_scheduler_the_gpus_are_those_of_its_workers(tmp_path: Path) -> None:
    settings = '[training]\ndevice = "gpu"\nscheduler = "tcp://10.0.0.1:8786"'
    require_gpu(run(tmp_path, settings))


def test_a_bar_is_full_once_whatever_the_order_of_the_members_and_wherever_they_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps: list[str] = []

    class Counting(KeptLines):
        def bar(self, title: str, total: int) -> Any:
            assert total == 3 * 5
            return super().bar(title, total)

    with progress_shown_by(Counting()), epochs_shown("train", 3, 5) as told:
        counted = told._advance  # type: ignore[attr-defined]
        told._advance = lambda note: (steps.append(note), counted(note))  # type: ignore[attr-defined]
        told(epoch(2, 1, 0.6))
        told(epoch(1, 1, 0.6))
        assert len(steps) == 2
        told(epoch(1, 2, 0.7))
        told(epoch(1, 3, 0.8, is_last=True))
        assert len(steps) == 1 + 5
        for number in (2, 3, 4, 5):
            told(epoch(2, number, 0.6 - number / 100))
        assert len(steps) == 5 + 5
        told(epoch(3, 1, 0.5))
        told(epoch(3, 2, 0.5))
        told(epoch(3, 3, float("nan"), is_last=True))
    assert len(steps) == 3 * 5
    assert "member 3 of 3, epoch 3 (second fit): loss 0.7000, gradient" in steps[-1]
    assert "gradient norm 0.1" in steps[-1]


def test_a_training_leaves_no_folder_and_removes_those_of_killed_runs(tmp_path: Path) -> None:
    made = run(tmp_path, "[training]\nprocesses = 1")
    left = made.workspace.cache / ".scratch.1"
    (left / "fit-1").mkdir(parents=True)
    with open_compute(made, block(2, 300)) as place:
        assert place.executor is None
        assert place.folder.is_dir()
        assert not left.exists()
    assert not place.folder.exists()
    left.mkdir()
    assert left in made.workspace.remove_leftovers("sample")
    assert not left.exists()


def test_a_workspace_that_takes_no_temporary_folder_is_an_error_with_a_fix(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(NextdayError, match="temporary files") as failed, Workspace(tmp_path).scratch():
        pass
    assert "free space" in failed.value.fix


class PerSymbol:
    """A fitted model with an ensemble per symbol, as flows see it."""

    per_symbol = True

    left_out = {1: "46 labels in the train range, and 100 are the least"}  # noqa: RUF012

    def __init__(self, symbols: list[str], may_start: bool = True) -> None:
        self.extra, self.rows, self.allowed = {"symbols": symbols}, [], may_start

    def arranged(self, rows: list[int]) -> "PerSymbol":
        self.rows = rows
        return self

    @property
    def held_out(self) -> "PerSymbol":
        return self

    def may_start(self, train: range) -> bool:
        return self.allowed


def test_tonights_block_finds_each_symbols_model_in_any_order_and_under_a_new_name(tmp_path: Path) -> None:
    universe = SimpleNamespace(current={"FB": "META", "META": "META", "A": "A", "YOUNG": "YOUNG"})
    symbols = ["META", "NEW", "YOUNG", "A"]
    told = KeptLines()
    with progress_shown_by(told):
        fitted = arrange(PerSymbol(["A", "YOUNG", "FB"]), SimpleNamespace(universe=universe), symbols)  # type: ignore[arg-type]
    assert fitted.rows == [2, -1, -1, 0]
    assert told.lines == ["no model of their own, so no forecast: NEW, YOUNG"]
    pooled: Any = SimpleNamespace(per_symbol=False)
    assert arrange(pooled, SimpleNamespace(universe=universe), symbols) is pooled


def test_the_report_says_why_a_symbol_has_no_model_of_its_own() -> None:
    facts = {"places": [0, -1], "left_out": {"1": "46 labels"}, "extra": {"symbols": ["A", "OLD"]}}
    of_universe: Any = SimpleNamespace(universe=SimpleNamespace(current={"OLD": "YOUNG"}))
    reason = explain_unmodelled(of_universe, facts)
    assert reason("YOUNG") == "no model of its own: 46 labels"
    assert "retrain" in reason("NEW")
    assert reason("A") == ""
    assert explain_unmodelled(of_universe, {"calibrator": {}})("ANY") == ""


def test_the_model_card_tells_scope_parameters_and_agreement() -> None:
    own = {"places": [0, 1], "calibrators": [{}, {}], "seeds": [1, 2, 3], "parameters": 1000}
    assert describe_scope(own) == "symbol: an ensemble for each of 2 symbols, 6,000 parameters in all"
    assert describe_scope({"calibrator": {}}).startswith("pooled")
    agree = {"seeds": [1, 2], "agreement": {"correlation": 0.8312, "spread": 0.0471, "rows": 504}}
    assert describe_agreement(agree) == "correlation 0.83, spread of the logits 0.047 (504 calibration rows)"
    assert describe_agreement(agree | {"seeds": [1]}) == "not measured"
    assert describe_agreement({"seeds": [1, 2]}) == "not measured"
    still = {"seeds": [1, 2], "agreement": {"correlation": None, "spread": 0.0, "rows": 9}}
    assert describe_agreement(still).startswith("constant forecasts")


def test_methods_are_compared_on_the_symbols_that_have_a_model() -> None:
    rows = pd.DataFrame({"symbol": ["A", "YOUNG", "A", "YOUNG"], "model": ["gru", "gru", "rule", "rule"]})
    symbols = ["A", "YOUNG"]
    told = KeptLines()
    with progress_shown_by(told):
        kept = drop_skipped_symbols(Walk(rows, rows, {}, rows), PerSymbol(symbols), symbols)
    assert kept.test["symbol"].tolist() == kept.before["symbol"].tolist() == ["A", "A"]
    assert kept.own["symbol"].tolist() == ["A", "A"]
    assert "YOUNG" in told.lines[0]
    whole = Walk(rows, rows, {}, rows)
    assert drop_skipped_symbols(whole, cast(Any, SimpleNamespace(left_out={})), symbols) is whole


def test_the_champion_goes_on_from_the_scored_fit_only_where_it_may_and_says_where_not(
    tmp_path: Path,
) -> None:
    fold = Fold(range(100), range(101, 120), range(121, 140), range(140, 140))
    warm, told = run(tmp_path, "[training]\nwarm_start = true"), KeptLines()
    scored = PerSymbol([])
    with progress_shown_by(told):
        assert choose_start(warm, scored, fold) is scored
        assert told.lines == []
        assert choose_start(warm, PerSymbol([], may_start=False), fold) is None
    assert "random initialization" in told.lines[0]
    assert choose_start(run(tmp_path), scored, fold) is None
