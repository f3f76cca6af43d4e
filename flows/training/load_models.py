"""Load TensorFlow, without what it prints while it starts."""

import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from models.ensembles import custom_ensemble
from models.ensembles.model_files import read_metadata
from pipeline.forecasting.custom_model import find_model

__all__ = ["load_ensembles", "load_model", "load_recipe"]


def load_ensembles() -> ModuleType:
    """Return models.ensembles.pooled; the first call imports TensorFlow, which takes seconds."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # it is read once, at import
    # TensorFlow shows its own libcurl to the whole process: curl_cffi, which asks Yahoo, must have its own before.
    importlib.import_module("curl_cffi.requests")
    with _silenced():
        from models.ensembles import pooled as ensemble
    return ensemble


def load_recipe(scope: str) -> tuple[Any, Any, Any]:
    """Return the recipe of a scope, pooled or symbol, and the classes of its network and its training."""
    pooled = load_ensembles()
    from models.ensembles.per_symbol import SymbolModel
    from models.networks.recurrent import Network
    from models.training.trainer import Training

    return (SymbolModel if scope == "symbol" else pooled.RecurrentModel), Network, Training


def load_model(directory: Path, base: Path) -> Any:
    """Return the fitted model in a folder: pooled, one a symbol, or of the user's own code.

    Args:
        directory: The model's.
        base: Where nextday.toml lies, and code of the user's own.

    Raises:
        ModelError: its files are missing, damaged or refused.
        InputError: it is of the user's own code, which cannot be found or fails.
    """
    facts = read_metadata(directory)
    if facts.get("family") == custom_ensemble.FAMILY:
        settings = facts["extra"]["settings"]["model"]
        return custom_ensemble.load(
            directory, find_model(settings["kind"], settings.get("options", {}), base)
        )
    pooled = load_ensembles()
    from models.ensembles import per_symbol_fitted

    if facts.get("family") == per_symbol_fitted.FAMILY:
        return per_symbol_fitted.load(directory)
    return pooled.load(directory)


@contextmanager
def _silenced() -> Iterator[None]:
    """Keep the file descriptor of standard error shut: TensorFlow's first lines heed no setting.

    If the import fails, they are shown after all.
    """
    if "tensorflow" in sys.modules:
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        except BaseException:
            said.seek(0)
            os.write(kept, said.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
