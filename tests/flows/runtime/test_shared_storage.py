"""Where a run is tracked, and where its reports are copied: never those of a simulation to where the real ones are."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.evening.publishing.copy_reports import copy_reports, reports_address
from flows.operations.site_checks import check_copies
from flows.runtime.context import Run, open_run
from flows.runtime.tracking import follow_shared_models, own_tracking, registry, tracking
from pipeline.errors import InputError
from pipeline.storage.simulation_note import SimulationNote, write_note

NOW = datetime(2018, 12, 20, 22, tzinfo=UTC)
SHARED = """
[storage]
mlflow = "http://127.0.0.1:9/"
reports = "s3://desk/reports/"
"""


def open_here(folder: Path, storage: str = SHARED) -> Run:
    (folder / "nextday.toml").write_text(f"[prices]\nstart = 2018-11-01\n{storage}")
    return open_run(folder / "nextday.toml", folder / "w", NOW)


def test_the_settings_name_the_server_and_the_bucket_of_the_universe(tmp_path: Path) -> None:
    run = open_here(tmp_path)
    assert str(tracking(run).server) == "http://127.0.0.1:9"
    assert registry(run).fetch is not None
    assert own_tracking(run).server is None
    assert reports_address(run) == "s3://desk/reports/sample"


def test_by_default_everything_is_in_the_workspace_and_nobody_is_asked(tmp_path: Path) -> None:
    run = open_here(tmp_path, "")
    assert tracking(run) == own_tracking(run)
    assert registry(run).fetch is None
    follow_shared_models(run)
    copy_reports(run)
    assert not run.workspace.last_copy("sample").exists()
    assert check_copies(run) == []


def test_a_simulation_keeps_its_models_and_reports_to_itself(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    write_note(tmp_path / "w" / "simulation.json", SimulationNote("sample", "", "2018-12-03"))
    run = open_here(tmp_path)
    assert run.in_simulation
    assert tracking(run).server is None
    assert reports_address(run) == ""
    follow_shared_models(run)


def test_a_variable_that_is_not_set_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DESK_MLFLOW", raising=False)
    run = open_here(tmp_path, '[storage]\nmlflow = "env:DESK_MLFLOW"\n')
    with pytest.raises(InputError, match="The environment variable DESK_MLFLOW holds no address") as refused:
        tracking(run)
    assert refused.value.exit_code == 2
