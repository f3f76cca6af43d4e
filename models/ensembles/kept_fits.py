"""Finished fits of the user's model, kept in folders, so that an interrupted walk goes on where it was.

The name of a folder is the digest of everything that its fit depends on: the arrays that it was handed, its ranges and
seed, the code and the options of the model, and the installed libraries. A fit of other prices, settings or code has
another name, and is done.
"""

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.ensembles.model_files import read_metadata, write_metadata, writing
from models.errors import ModelError

__all__ = ["KeptFits"]

_FILES: Final = "fit"
"""The folder in which the user's model writes."""


@dataclass(frozen=True)
class KeptFits:
    """The finished fits in a folder.

    Attributes:
        folder: The folder; the first fit creates it.
        made_with: Describes the model: its name, its options and the digest of its code.
    """

    folder: Path
    made_with: str

    def keep(
        self,
        given: Sequence[NDArray[Any]],
        train: range,
        stop: range,
        seed: int,
        fit: Callable[[], Callable[[Path], None]],
    ) -> Path:
        """Return the folder that a fit was saved in; only one that is not there, or damaged, is done.

        Args:
            given: The arrays that it is handed.
            train: Its session numbers to learn from.
            stop: Those for early stopping.
            seed: Its seed.
            fit: Does it, and returns what saves it into an empty folder.

        Raises:
            ModelError: it cannot be written.
        """
        place = self.folder / self._name(given, train, stop, seed)
        if not _is_whole(place):
            shutil.rmtree(place, ignore_errors=True)
            save = fit()
            with writing(place) as draft:
                (draft / _FILES).mkdir()
                save(draft / _FILES)
                write_metadata(draft, {"seed": seed})
        return place / _FILES

    def _name(self, given: Sequence[NDArray[Any]], train: range, stop: range, seed: int) -> str:
        facts = [self.made_with, _digest_libraries(), [train.start, train.stop, stop.start, stop.stop, seed]]
        digest = blake2b(json.dumps(facts).encode(), digest_size=16)
        for array in given:
            whole = np.ascontiguousarray(array)
            digest.update(f"{whole.dtype} {whole.shape} ".encode())
            digest.update(whole.data)
        return digest.hexdigest()


def _is_whole(place: Path) -> bool:
    try:
        read_metadata(place)
    except ModelError:
        return False
    return True


@cache
def _digest_libraries() -> str:
    """Return the digest of Python's version and those of everything installed: the user's code may use any of it."""
    installed = sorted({f"{each.name} {each.version}" for each in distributions()})
    return blake2b("\n".join([sys.version, *installed]).encode(), digest_size=16).hexdigest()
