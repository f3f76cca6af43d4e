"""A search fits its networks in processes that come and go, and finds what it would have found by itself."""

import os

import pytest

from flows.runtime.context import Run
from flows.search import processes
from flows.search.objective import cut_history
from flows.search.processes import Processes
from flows.search.search import search_inside
from flows.search.space import longest_lookback
from flows.training.history import History
from pipeline.tracking.trials import TrialBook

pytestmark = [pytest.mark.slow, pytest.mark.own_process]


def test_trials_in_other_processes_are_the_same_and_each_process_fits_a_few(
    run: Run, known: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "TRIALS_EACH", 1)
    inside, book = cut_history(run, known, longest_lookback(run.config)), TrialBook(run.workspace.trials("u"))
    fitted_by: list[int] = []
    with Processes() as elsewhere:
        for _ in range(2):
            found = search_inside(run, inside, elsewhere, trials=1)
            fitted_by += elsewhere.pids
    assert len({*fitted_by, os.getpid()}) == 3
    assert elsewhere.pids == []
    assert [trial.state for trial in found.trials] == ["complete", "complete"]
    for trial in found.trials:
        with pytest.raises(ProcessLookupError):
            os.kill(fitted_by[trial.number or 0], 0)
    for file in book.path.parent.glob(f"{book.path.stem}.*"):  # with its checksum: a lost file is told
        file.unlink()
    here = search_inside(run, inside, trials=2)
    assert [trial.losses for trial in here.trials] == [trial.losses for trial in found.trials]
