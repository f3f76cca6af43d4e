"""Load saved models, and TensorFlow, which only training needs, without its start-up messages."""

import importlib
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from flows.training.verified_champion import Champion
from models.classifiers import saved
from models.ensembles import custom_ensemble
from models.ensembles.model_files import CLASSIFIER
from models.serving import ensemble
from pipeline.forecasting.custom_model import find_model

__all__ = ["load_ensembles", "load_model", "load_own", "load_recipe"]


def load_ensembles() -> ModuleType:
    """Return models.ensembles.pooled; the first call imports TensorFlow, which takes seconds."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read once, at import
    # TensorFlow exports its own libcurl to the whole process: curl_cffi, which fetches from Yahoo, must load first.
    importlib.import_module("curl_cffi.requests")
    with _silenced():
        from models.ensembles import pooled
    return pooled


def load_recipe(scope: str) -> tuple[Any, Any, Any]:
    """Return the model class of a scope, pooled or symbol, and the classes of its network and its training."""
    pooled = load_ensembles()
    from models.ensembles.per_symbol import SymbolModel
    from models.networks.network import Network
    from models.training.trainer import Training

    return (SymbolModel if scope == "symbol" else pooled.RecurrentModel), Network, Training


def load_model(champion: Champion, base: Path) -> Any:
    """Return the saved model of a champion: networks, a classifier, or custom code; TensorFlow is not needed.

    Its files are not verified again.

    Args:
        champion: The model.
        base: The folder of nextday.toml, from which custom code is found.

    Raises:
        ModelError: its files cannot be read, or are refused.
        InputError: its custom code cannot be found, or fails.
    """
    directory, metadata = champion.directory, champion.metadata
    family = metadata.get("family")
    if family == custom_ensemble.FAMILY:
        written = find_model(champion.kind, dict(champion.options), base)
        return custom_ensemble.load(directory, written, metadata)
    return load_own(directory, metadata)


def load_own(directory: Path, metadata: Mapping[str, Any]) -> Any:
    """Return a saved network or classifier, whose files are verified already.

    Raises:
        ModelError: its files cannot be read, or are refused.
    """
    if metadata.get("family") == CLASSIFIER:
        return saved.load(directory, metadata)
    return ensemble.load(directory, metadata)


@contextmanager
def _silenced() -> Iterator[None]:
    """Silence the file descriptor of standard error: no setting suppresses TensorFlow's first lines.

    If the import fails, they are shown; not if it was interrupted, which TensorFlow may turn into an error of its own.
    """
    if "tensorflow" in sys.modules:
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as output:
        os.dup2(output.fileno(), 2)
        try:
            yield
        except Exception as error:
            if not _was_interrupted(error):
                output.seek(0)
                os.write(kept, output.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _was_interrupted(error: BaseException | None) -> bool:
    """Return whether an interruption (KeyboardInterrupt, SystemExit or the like) led to an error."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        if not isinstance(error, Exception):
            return True
        seen.append(error)
        error = error.__cause__ or error.__context__
    return False
