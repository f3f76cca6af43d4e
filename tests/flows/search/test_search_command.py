"""`nextday search`: what it prints and keeps, and beside what it may run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from flows.search.search import search
from pipeline.errors import InputError
from tests.conftest import NOW
from tests.flows.search.conftest import SETTINGS, Fake
from tests.support.command_line import CommandLine, told

pytestmark = [pytest.mark.slow, pytest.mark.own_process]


@contextmanager
def command_line(
    folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Any]]:
    """Return `nextday search` in a folder with prices."""
    nextday = CommandLine(home, monkeypatch, capsys)
    monkeypatch.chdir(home)
    options = (
        "--config",
        str(folder / "nextday.toml"),
        "--home",
        str(home / "w"),
        "--now",
        "2019-06-01T12:00Z",
    )
    yield lambda *more: nextday(*options, "search", *more)


def test_the_command_prints_the_trials_and_the_lines_to_paste_and_leaves_the_settings_alone(
    folder: Path,
    tmp_path: Path,
    seen: list[tuple[Any, ...]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = (folder / "nextday.toml").read_bytes()
    with command_line(folder, tmp_path, monkeypatch, capsys) as nextday:
        first = nextday("--trials", "3")
        second = nextday("--trials", "9")
        anew = nextday("--trials", "1", "--anew")
    assert [first.code, second.code, anew.code] == [0, 0, 0], first
    assert "3 trials (3 complete)" in first.out
    assert "the test set was not used" in first.out
    assert "12 trials" in second.out
    assert "continuing the search on the prices through" in second.err
    assert "13 trials" in anew.out  # nothing new has been stored: these are the prices of today
    assert "were tried on this universe: 0 scored on test rows" in second.out
    assert "learning_rate = " in second.out
    assert "[training]" in second.out
    assert (folder / "nextday.toml").read_bytes() == settings


def test_two_searches_at_once_are_one_too_many(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = tmp_path / "w" / "locks" / "u.search.lock"
    lock.parent.mkdir(parents=True)
    with command_line(folder, tmp_path, monkeypatch, capsys) as nextday, FileLock(lock):
        said = nextday("--trials", "1")
    assert said.code == 1
    assert "a search of the universe 'u'" in told(said)[0]


def test_a_search_leaves_the_evening_its_lock(
    folder: Path,
    tmp_path: Path,
    seen: list[tuple[Any, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held: list[bool] = []

    def fit(self: Fake, *_: Any, **__: Any) -> Fake:
        with FileLock(tmp_path / "w" / "locks" / "u.lock").acquire(timeout=0):
            held.append(True)
        return self

    monkeypatch.setattr(Fake, "fit", fit)
    search.fn(folder / "nextday.toml", tmp_path / "w", NOW, trials=1)
    assert held == [True, True]


def test_without_optuna_the_command_says_how_to_install_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("flows.cli.arguments.find_spec", lambda name: None)
    with command_line(folder, tmp_path, monkeypatch, capsys) as nextday:
        said = nextday()
    assert said.code == 2
    assert ".[search]" in "\n".join(told(said))
    assert not (tmp_path / "w").exists()


def test_a_search_among_per_symbol_models_is_refused(folder: Path, tmp_path: Path) -> None:
    settings = tmp_path / "nextday.toml"
    text = SETTINGS.replace("[model]", '[model]\nscope = "symbol"', 1)
    settings.write_text(text.replace("prices.parquet", str(folder / "prices.parquet")))
    with pytest.raises(InputError, match="per-symbol models"):
        search.fn(settings, tmp_path / "data", NOW)
