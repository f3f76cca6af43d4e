"""Finished trainings, stored in files, so that an interrupted run continues where it stopped.

The name of a file is the digest of everything that its training depends on: examples, settings, seed, initial weights
and code. A training with other prices, settings or seed has another name, and is run.
"""

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np
import tensorflow as tf

from models.engine import keras
from models.errors import ModelError
from models.training.trainer import Epoch, Examples, Run, Weights

__all__ = ["Checkpoints", "digest_examples", "name_training"]


def digest_examples(examples: Examples) -> str:
    """Return the digest of the examples of a fit."""
    digest = blake2b(digest_size=16)
    for field in fields(Examples):
        part = np.ascontiguousarray(getattr(examples, field.name))
        digest.update(f"{field.name} {part.dtype} {part.shape} ".encode())
        digest.update(part.data)
    return digest.hexdigest()


def name_training(facts: dict[str, Any], start: Weights | None) -> str:
    """Return the name of a training: the digest of its facts, its initial weights, and the code and libraries."""
    made_with = {"keras": keras.version(), "tensorflow": tf.version.VERSION, "models": _digest_code()}
    digest = blake2b(json.dumps(facts | made_with, sort_keys=True).encode(), digest_size=16)
    for array in start or []:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


_BEST, _REFITTED = "weight_", "refitted_"
"""How the arrays of a file begin: those of the first fit, and of the second."""

_CODE: Final = Path(__file__).parents[1]
"""The package `models`: code in any of its folders can change the result of a training."""


@cache
def _digest_code() -> str:
    """Return the digest of all code in models/: another version of nextday may train differently."""
    digest = blake2b(digest_size=16)
    for file in sorted(_CODE.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Checkpoints:
    """The finished trainings in a folder.

    Attributes:
        folder: The folder; the first write creates it.
    """

    folder: Path

    def read(self, name: str) -> Run | None:
        """Return a finished training; None if there is none, or its file is damaged."""
        try:
            with self._path(name).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                epochs = [Epoch(**epoch) for epoch in json.loads(str(file["epochs"]))]
                weights, refitted = (
                    [file[part] for part in file.files if part.startswith(kind)]
                    for kind in (_BEST, _REFITTED)
                )
                return Run(weights, epochs, refitted)
        except (OSError, EOFError, ValueError, KeyError, TypeError, RuntimeError, BadZipFile):
            return None

    def write(self, name: str, run: Run) -> None:
        """Write a finished training, atomically.

        Raises:
            ModelError: the file cannot be written.
        """
        half = self._path(name).with_suffix(".half.npz")
        parts: dict[str, Any] = {f"{_BEST}{place}": array for place, array in enumerate(run.weights)}
        parts |= {f"{_REFITTED}{place}": array for place, array in enumerate(run.refitted)}
        parts["epochs"] = json.dumps([asdict(epoch) for epoch in run.epochs])
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with half.open("wb") as file:
                np.savez(file, **parts)
                file.flush()
                os.fsync(
                    file.fileno()
                )  # otherwise a power failure may leave an empty file under the new name
            half.replace(self._path(name))
        except OSError as error:
            raise ModelError(
                f"a finished training cannot be saved: {error.strerror or error}",
                where=str(self.folder),
                fix="free space on that disk, then run this again: finished trainings are not repeated",
            ) from None
        finally:
            with suppress(OSError):
                half.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npz"
