"""The files of tracked runs that are old enough to go; their parameters, metrics and tags stay."""

import re
import sqlite3
from collections.abc import Collection
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Final

from pipeline.storage.files import measure_folder, remove_folder
from pipeline.tracking.mlflow_database import database, run_folder

__all__ = ["remove_run_files"]

_OLD: Final = """
    SELECT runs.run_uuid FROM runs JOIN experiments ON experiments.experiment_id = runs.experiment_id
    JOIN tags AS kind ON kind.run_uuid = runs.run_uuid AND kind.key = 'record'
    JOIN tags AS clock ON clock.run_uuid = runs.run_uuid AND clock.key = 'now'
    WHERE experiments.name = ? AND kind.value IN ('forecast', 'training') AND substr(clock.value, 1, 10) < ?
"""


def remove_run_files(home: Path, universe: str, before: date, kept: Collection[str] = ()) -> tuple[int, int]:
    """Remove the files of the universe's nightly runs and trainings whose clock was before a day; MLflow is not needed.

    Backtests keep theirs, and so does every model: it serves from models/, not from MLflow's copy.

    Args:
        home: The workspace.
        universe: The universe's name; the caller must hold its lock.
        before: The first day whose runs keep their files.
        kept: The ids of runs that keep theirs, however old.

    Returns:
        The number of runs, and the bytes of their files.

    Raises:
        sqlite3.Error: MLflow's database cannot be read.
    """
    if not database(home).exists():
        return 0, 0
    with closing(sqlite3.connect(f"{database(home).resolve().as_uri()}?mode=ro", uri=True)) as db:
        runs = [str(run) for (run,) in db.execute(_OLD, [f"nextday-{universe}", before.isoformat()])]
    folders = [run_folder(home, run) for run in runs if re.fullmatch("[0-9a-f]{32}", run) and run not in kept]
    found = [folder for folder in folders if folder.is_dir()]
    size = 0
    for folder in found:
        size += measure_folder(folder)
        remove_folder(folder)
    return len(found), size
