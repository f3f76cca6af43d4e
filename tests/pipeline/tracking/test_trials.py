"""Every trial is recorded once, durably, and counted as one setting however often it was tried."""

import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.config import Config, ModelConfig, ScheduleConfig, TrainingConfig, UniverseConfig
from pipeline.errors import NextdayError, StoreError
from pipeline.tracking.trials import (
    Trial,
    TrialBook,
    count_settings,
    digest_procedure,
    list_parameters,
    list_sharpes,
)

NOW = datetime(2018, 12, 10, 22, tzinfo=UTC)


def trial(number: int = 0, **facts: object) -> Trial:
    made = Trial(
        kind="search",
        when=NOW,
        digest=f"digest-{number}",
        state="complete",
        parameters={"model.units": 8, "model.attention": False, "training.learning_rate": 0.0003},
        objective=0.6925,
        folds=(0.69, 0.695),
        sessions=4,
        losses=(0.68, 0.7, 0.71, 0.68),
        as_of="2018-12-10",
        data_version=7,
        study="one",
        number=number,
    )
    return replace(made, **facts)  # type: ignore[arg-type]


@pytest.fixture
def book(tmp_path: Path) -> TrialBook:
    return TrialBook(tmp_path / "trials" / "u.jsonl")


def test_what_is_read_is_what_was_written(book: TrialBook) -> None:
    failed = trial(1, state="failed", objective=None, folds=(), losses=(), sessions=0)
    book.add(trial(0))
    book.add(failed)
    assert book.read() == [trial(0), failed]


def test_nothing_tried_is_no_trial(book: TrialBook) -> None:
    assert book.read() == []
    assert count_settings([]).sentence == ""


def test_a_line_is_only_ever_added(book: TrialBook) -> None:
    book.add(trial(0))
    before = book.path.read_bytes()
    book.add(trial(1))
    assert book.path.read_bytes().startswith(before)


def test_a_run_that_is_done_again_adds_no_second_line(book: TrialBook) -> None:
    book.add(trial(0))
    book.add(trial(0, when=NOW + timedelta(hours=1)))
    assert book.read() == [trial(0)]


@pytest.mark.parametrize("rest", ['{"kind": "sea', '{"kind": "search"}', "\x00"])
def test_half_a_line_of_a_killed_run_is_no_trial_and_harms_no_later_one(book: TrialBook, rest: str) -> None:
    book.add(trial(0))
    with book.path.open("a") as file:
        file.write(rest)
    assert book.read() == [trial(0)]
    book.add(trial(1))
    assert book.read() == [trial(0), trial(1)]


@pytest.mark.parametrize("line", ["no JSON", "{}", "[]", '{"folds": 1, "losses": 2}'])
def test_a_damaged_line_is_named_and_nothing_is_added_behind_it(book: TrialBook, line: str) -> None:
    book.add(trial(0))
    with book.path.open("a") as file:
        file.write(f"{line}\n")
    damaged = book.path.read_bytes()
    for attempt in (book.read, lambda: book.add(trial(1))):
        with pytest.raises(StoreError, match="Line 2") as error:
            attempt()
        assert str(book.path) in str(error.value)
    assert book.path.read_bytes() == damaged


@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_lines_that_were_changed_or_cut_off_are_told_and_counting_may_go_on(
    book: TrialBook, damage: str
) -> None:
    for number in range(3):
        book.add(trial(number))
    content = book.path.read_bytes()
    if damage == "gone":
        book.path.unlink()
    else:
        lines = (
            content.replace(b"digest-1", b"digest-3") if damage == "changed" else content[: len(content) // 2]
        )
        book.path.write_bytes(lines[: lines.rfind(b"\n") + 1])
    for attempt in (book.read, lambda: book.add(trial(4))):
        with pytest.raises(StoreError, match="changed or cut") as error:
            attempt()
        assert str(book.checksum) in error.value.fix
    book.checksum.unlink()
    book.add(trial(4))
    assert trial(4) in book.read()
    book.path.write_bytes(b"")
    with pytest.raises(StoreError, match="changed or cut"):
        book.read()


def test_trials_of_a_run_that_was_killed_before_their_checksum_are_read(book: TrialBook) -> None:
    book.add(trial(0))
    before = book.checksum.read_bytes()
    book.add(trial(1))
    book.checksum.write_bytes(before)
    assert book.read() == [trial(0), trial(1)]
    book.add(trial(2))
    assert len(book.read()) == 3


def test_a_full_disk_is_told_in_words_and_the_trials_stay(
    book: TrialBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    book.add(trial(0))
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(NextdayError, match="No space left") as full:
        book.add(trial(1))
    assert str(book.path) in str(full.value)
    monkeypatch.undo()
    assert trial(0) in book.read()


def test_a_file_that_cannot_be_read_is_reported(book: TrialBook) -> None:
    book.path.mkdir(parents=True)
    with pytest.raises(StoreError, match="cannot be read"):
        book.read()


def test_a_setting_counts_once_a_kind_however_often_it_is_tried(book: TrialBook) -> None:
    tried = count_settings(
        [
            trial(0),
            trial(3, digest="digest-0"),
            trial(1, state="pruned"),
            trial(2, state="failed"),
            trial(0, kind="test", study=""),
            trial(0, kind="test", study="", data_version=8),
            trial(9, kind="test", study=""),
        ]
    )
    assert (tried.settings, tried.searched, tried.tested) == (4, 3, 2)
    assert tried.sentence.startswith(
        "4 settings were tried on this universe: 2 scored on test rows, 3 searched inside the training data."
    )
    assert count_settings([trial(0)]).sentence.startswith("1 setting was tried")


def test_the_sharpe_ratio_of_a_setting_is_that_of_its_newest_trial_and_a_search_has_none(
    book: TrialBook,
) -> None:
    walk = trial(0, kind="test", study="backtest", sharpe=0.031)
    for made in (trial(1), walk, replace(walk, data_version=8, sharpe=-0.02), trial(2, sharpe=0.05)):
        book.add(made)
    assert book.read()[1] == walk
    assert list_sharpes(book.read()) == [-0.02, 0.05]


def test_a_line_of_before_sharpe_ratios_were_kept_is_read_and_gets_its_ratio_when_it_is_done_again(
    book: TrialBook,
) -> None:
    book.add(trial(0))
    line = json.loads(book.path.read_text())
    del line["sharpe"]
    book.path.write_text(json.dumps(line) + "\n")
    book.checksum.unlink()
    assert book.read() == [trial(0)]
    for _ in range(2):
        book.add(trial(0, sharpe=0.04))
    assert book.read() == [trial(0), trial(0, sharpe=0.04)]
    assert count_settings(book.read()).settings == 1
    assert list_sharpes(book.read()) == [0.04]


def test_a_report_as_of_then_excludes_later_trials(book: TrialBook) -> None:
    book.add(trial(0))
    book.add(trial(1, when=NOW + timedelta(days=1)))
    assert book.read(until=NOW) == [trial(0)]


def test_only_what_changes_a_score_makes_another_setting() -> None:
    plain = digest_procedure(Config())
    assert digest_procedure(Config(), {"features_code": "1"}) not in (
        plain,
        digest_procedure(Config(), {"a": "2"}),
    )
    assert digest_procedure(Config(), {}) == plain
    for same in (
        Config(universe=UniverseConfig(name="other")),
        Config(schedule=ScheduleConfig(retrain="0 9 * * SAT")),
        Config(training=TrainingConfig(processes=2)),
    ):
        assert digest_procedure(same) == plain
    for other in (Config(model=ModelConfig(units=17)), Config(training=TrainingConfig(seed=21))):
        assert digest_procedure(other) != plain


def test_the_parameters_are_settings_by_their_place() -> None:
    parameters = list_parameters(Config(model=ModelConfig(units=17)))
    assert parameters["model.units"] == 17
    assert parameters["training.learning_rate"] == 3e-4
    assert json.loads(json.dumps(parameters)) == parameters
