"""Load TensorFlow, without what it prints while it starts."""

import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

__all__ = ["load_ensembles"]


def load_ensembles() -> ModuleType:
    """Return models.ensemble; the first call imports TensorFlow, which takes seconds."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # it is read once, at import
    # TensorFlow shows its own libcurl to the whole process: curl_cffi, which asks Yahoo, must have its own before.
    importlib.import_module("curl_cffi.requests")
    with _silenced():
        from models import ensemble
    return ensemble


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
