"""Start a command quickly: Prefect's server beside the imports, and no garbage collected meanwhile."""

import atexit
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flows.runtime.temporary_server import TemporaryServer

__all__ = ["import_beside", "start_quickly", "start_server_early", "use_or_stop", "working"]


def start_quickly() -> None:
    """Put garbage collection off until `working`, and spare the last one at the end of the process.

    What is imported stays: looking for garbage among it takes a third of the time of a start.
    """
    gc.disable()
    atexit.register(gc.freeze)


def start_server_early() -> "TemporaryServer | None":
    """Start Prefect's temporary server before anything else is imported: the command waits for it longest.

    Returns:
        The server; None where another one may be configured, or Prefect's folder depends on the settings.
    """
    folder = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    profiles = folder / "profiles.toml"
    if os.environ.get("PREFECT_API_URL") or not folder.is_dir():
        return None
    if profiles.is_file() and "PREFECT_API_URL" in profiles.read_text(encoding="utf-8", errors="replace"):
        return None
    from flows.runtime.temporary_server import TemporaryServer

    return TemporaryServer()


def import_beside(server: "TemporaryServer", *, trains: bool) -> None:
    """Import what takes seconds while the server starts, then wait for it: MLflow, or for a training TensorFlow.

    MLflow gets ready while the training computes.

    Raises:
        NextdayError: the server cannot start.
    """
    from flows.training.load_models import load_ensembles
    from pipeline.tracking.mlflow_database import import_mlflow

    if trains:
        load_ensembles()
    else:
        import_mlflow()
    server.use()


@contextmanager
def working() -> Iterator[None]:
    """Show the progress of the block, which comes after all imports: from here on garbage is collected."""
    from flows.runtime.progress import show_progress

    gc.freeze()
    gc.enable()
    with show_progress():
        yield


def use_or_stop(server: "TemporaryServer", arguments: dict[str, Any]) -> None:
    """Stop the server where what is left to do needs none; else import the rest beside its start.

    The run that tells goes out of scope with its prices: those of a large universe would stay in memory all evening.
    """
    from flows.nightly import has_champion, is_sealed
    from flows.runtime.context import open_run

    run = open_run(**arguments)
    if is_sealed(run):
        server.stop()
    else:
        import_beside(server, trains=run.config.model.is_network and not has_champion(run))
