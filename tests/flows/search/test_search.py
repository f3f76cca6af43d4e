"""A search uses the training data alone, records every trial, and reports how much its best one improves."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from flows.prices.update import PriceStatus
from flows.runtime.context import Run
from flows.search import objective
from flows.search.objective import Inside, cut_history
from flows.search.search import search, search_inside
from flows.search.space import configured_parameters, longest_lookback, with_parameters
from flows.training.history import History
from flows.training.trials import count_trial
from models.errors import ModelError
from models.training.process_pool import LostProcessError
from pipeline.errors import InputError
from pipeline.features.panel import Panel
from pipeline.forecasting.folds import scoring_fold
from pipeline.tracking.trials import Trial, TrialBook, count_settings, digest_procedure
from tests.conftest import NOW, PROJECT
from tests.flows.search.conftest import Fake, chance_of

pytestmark = [pytest.mark.slow, pytest.mark.own_process]


def inside(run: Run, known: History) -> Inside:
    return cut_history(run, known, longest_lookback(run.config))


def written(run: Run) -> list[Trial]:
    return TrialBook(run.workspace.trials("u")).read()


def spoiled(known: History, first: int) -> History:
    """Return the history with garbage from session `first` on, in features, labels and prices."""
    x, mask, y = (part.copy() for part in (known.sequences.x, known.sequences.mask, known.sequences.y))
    x[:, first:], mask[:, first:], y[:, first:] = np.nan, True, 1.0
    close = known.panel.adj_close.copy()
    close[first:] = 1e9
    panel = replace(known.panel, adj_close=close)
    assert isinstance(panel, Panel)
    return History(panel, replace(known.sequences, x=x, mask=mask, y=y), known.seq)


def test_nothing_behind_the_training_data_changes_a_trial(
    run: Run, known: History, seen: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    scored = scoring_fold(known.sequences, run.config.evaluation, run.config.training)
    before = search_inside(run, inside(run, known), trials=3)
    other = replace(run, workspace=type(run.workspace)(tmp_path / "other"))
    after = search_inside(other, inside(run, spoiled(known, scored.stop.start)), trials=3)
    assert after == before
    for _, x, mask, y, ranges in seen:
        assert x.shape[1] == mask.shape[1] == y.shape[1] == scored.stop.start
        assert ranges["calibrate"].stop < scored.train.stop
        assert np.isfinite(x).all()


def test_a_spoiled_training_range_would_be_seen(
    run: Run, known: History, seen: list[tuple[Any, ...]]
) -> None:
    """The control of the test above."""
    scored = scoring_fold(known.sequences, run.config.evaluation, run.config.training)
    spoil = inside(run, spoiled(known, scored.train.stop - 1))
    assert not np.isfinite(spoil.sequences.x).all()


def test_the_first_trial_is_of_the_configured_settings_with_few_members(
    run: Run, known: History, seen: list[tuple[Any, ...]]
) -> None:
    found = search_inside(run, inside(run, known), trials=1)
    assert found.trials[0].parameters == configured_parameters(run.config) == found.configured
    assert found.trials[0].digest == digest_procedure(run.config)
    assert [config.model.members for config, *_ in seen] == [2, 2]
    assert seen[0][0].model.units == 4


def test_a_trial_is_the_mean_log_loss_of_its_sessions_on_the_slices(
    run: Run, known: History, seen: list[tuple[Any, ...]]
) -> None:
    cut = inside(run, known)
    trial = search_inside(run, cut, trials=1).trials[0]
    assert trial.objective is not None
    expected = []
    for fold in cut.folds:
        x, y = cut.sequences.x[:, list(fold.test)], cut.sequences.y[:, list(fold.test), 0]
        chance = chance_of(abs(np.log(3e-4 / 0.001)), x)
        losses = np.where(np.isnan(y), np.nan, -np.log(np.where(y == 1, chance, 1 - chance)))
        expected += np.nanmean(losses, axis=0).tolist()
    assert trial.losses == pytest.approx(expected, abs=1e-7)
    assert trial.objective == pytest.approx(np.mean(expected))
    assert trial.sessions == sum(len(fold.test) for fold in cut.folds)


def test_trials_of_every_lookback_stand_on_the_same_sessions(
    run: Run, known: History, seen: list[tuple[Any, ...]]
) -> None:
    found = search_inside(run, inside(run, known), trials=12)
    lookbacks = {trial.parameters["model.lookback"] for trial in found.trials}
    assert len(lookbacks) > 2
    assert len({trial.sessions for trial in found.trials if trial.state == "complete"}) == 1


def test_a_search_in_pieces_is_the_search_at_once(
    run: Run, known: History, seen: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    at_once = search_inside(run, inside(run, known), trials=14)
    other = replace(run, workspace=type(run.workspace)(tmp_path / "other"))
    for trials in (1, 4, 8, 1):
        in_pieces = search_inside(other, inside(run, known), trials=trials)
    assert in_pieces == at_once
    assert [trial.number for trial in written(run)] == list(range(14))
    assert len({json.dumps(trial.parameters) for trial in at_once.trials}) > 10


def test_the_sampler_learns_from_the_trials(run: Run, known: History, seen: list[tuple[Any, ...]]) -> None:
    found = search_inside(run, inside(run, known), trials=40)
    distance = [
        abs(np.log(float(trial.parameters["training.learning_rate"]) / 0.001)) for trial in found.trials
    ]
    assert np.mean(distance[-15:]) < np.mean(distance[:15])


def test_a_first_slice_worse_than_the_median_ends_the_trial_and_is_counted(
    run: Run, known: History, seen: list[tuple[Any, ...]]
) -> None:
    found = search_inside(run, inside(run, known), trials=20)
    pruned = [trial for trial in found.trials if trial.state == "pruned"]
    assert pruned
    for trial in pruned:
        before = [each.folds[0] for each in found.trials[: trial.number] if each.state == "complete"]
        assert len(trial.folds) == 1
        assert trial.folds[0] > np.median(before)
    assert found.tried.searched == len({trial.digest for trial in found.trials})


def test_settings_that_cannot_be_trained_are_a_failed_trial_and_the_search_goes_on(
    run: Run, known: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Diverging(Fake):
        def fit(self, x: np.ndarray, mask: np.ndarray, y: np.ndarray, **ranges: Any) -> "Fake":
            if self.config.training.learning_rate != 3e-4:
                raise ModelError("training diverged")
            return self

    monkeypatch.setattr(objective, "make_recipe", lambda run, *_: Diverging(run.config, []))
    found = search_inside(run, inside(run, known), trials=3)
    assert [trial.state for trial in found.trials] == ["complete", "failed", "failed"]
    assert [trial.objective is None for trial in found.trials] == [False, True, True]


def test_a_lost_process_ends_the_search_and_blames_no_settings(
    run: Run, known: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Fake):
        def fit(self, x: np.ndarray, mask: np.ndarray, y: np.ndarray, **ranges: Any) -> "Fake":
            if self.config.training.learning_rate != 3e-4:
                raise LostProcessError("a training process was lost 2 times")
            return self

    monkeypatch.setattr(objective, "make_recipe", lambda run, *_: Killed(run.config, []))
    with pytest.raises(LostProcessError):
        search_inside(run, inside(run, known), trials=3)
    assert [trial.state for trial in written(run)] == ["complete"]


def test_configured_settings_that_cannot_be_trained_end_the_search(
    run: Run, known: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Diverging(Fake):
        def fit(self, x: np.ndarray, mask: np.ndarray, y: np.ndarray, **ranges: Any) -> "Fake":
            raise ModelError("training diverged")

    monkeypatch.setattr(objective, "make_recipe", lambda run, *_: Diverging(run.config, []))
    with pytest.raises(ModelError, match="diverged"):
        search_inside(run, inside(run, known), trials=3)
    assert written(run) == []


def test_no_trial_begins_after_the_time_is_up(run: Run, known: History, seen: list[tuple[Any, ...]]) -> None:
    assert search_inside(run, inside(run, known), trials=3, minutes=0).trials == []
    assert len(search_inside(run, inside(run, known), trials=3, minutes=5).trials) == 3


def test_other_settings_are_another_search_and_all_trials_are_counted(
    run: Run, known: History, seen: list[tuple[Any, ...]]
) -> None:
    first = search_inside(run, inside(run, known), trials=2)
    wider = with_parameters(run.config, {"model.units": 24})
    other = replace(run, config=wider)
    second = search_inside(other, inside(other, known), trials=1)
    assert len(second.trials) == 1
    assert second.trials[0].parameters["model.units"] == 24
    assert (first.tried.settings, second.tried.settings) == (2, 3)


def test_too_few_sessions_in_a_row_are_reported(run: Run, known: History) -> None:
    holes = known.sequences.mask.copy()
    holes[:, ::30] = False
    with pytest.raises(InputError, match="60 sessions in a row"):
        inside(run, History(known.panel, replace(known.sequences, mask=holes), known.seq))


def test_a_score_on_the_test_range_is_a_trial_too_and_repeated_it_is_the_same_one(
    run: Run, known: History
) -> None:
    """A run that was killed after it and repeated counts once; so does a training on newer prices."""
    days = known.sequences.sessions[-60:]
    rows = pd.DataFrame(
        {
            "model": ["gru"] * 60 + ["base_rate"] * 60,
            "as_of": [*days] * 2,
            "horizon": 1,
            "p_up": 0.6,
            "outcome": 1.0,
        }
    )
    rows.loc[[3, 7], "outcome"] = np.nan
    for seq in (1, 1, 2):
        count_trial(run, cast(PriceStatus, SimpleNamespace(as_of=known.as_of, seq=seq)), rows)
    first, second = written(run)
    assert first.kind == "test"
    assert first.digest == digest_procedure(run.config)
    assert (first.sessions, first.data_version, second.data_version) == (58, 1, 2)
    assert first.objective == pytest.approx(-np.log(0.6))
    assert count_settings(written(run)).tested == 1


@pytest.mark.proof
def test_real_networks_are_searched_and_a_killed_search_loses_the_trial_under_way_at_most(
    folder: Path, run: Run, known: History, tmp_path: Path
) -> None:
    """Killed without warning after its first trial, and done again, it ends like one that was never interrupted."""
    environment = os.environ | {
        "PYTHONPATH": str(PROJECT),
        "PREFECT_HOME": str(tmp_path / "p"),
    }
    code = (
        "import sys, datetime\n"
        "from flows.search.search import search\n"
        "from pathlib import Path\n"
        "now = datetime.datetime.fromisoformat(sys.argv[3])\n"
        "search.fn(Path(sys.argv[1]), Path(sys.argv[2]), now, trials=3)"
    )
    home = tmp_path / "killed"
    arguments = [sys.executable, "-c", code, str(folder / "nextday.toml"), str(home), NOW.isoformat()]
    book = TrialBook(home / "trials" / "u.jsonl")
    with subprocess.Popen(arguments, env=environment, stderr=subprocess.DEVNULL) as process:
        end = time.monotonic() + 300
        while not book.read() and process.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
    first = book.read()
    assert 1 <= len(first) < 3
    again = search.fn(folder / "nextday.toml", home, NOW, trials=3 - len(first))
    assert again.trials[: len(first)] == first
    undisturbed = search_inside(run, inside(run, known), trials=3)
    facts = [(trial.parameters, trial.state, trial.losses) for trial in undisturbed.trials]
    assert [(trial.parameters, trial.state, trial.losses) for trial in again.trials] == facts
    assert all(0.6 < float(trial.objective or 0) < 0.8 for trial in again.trials)
