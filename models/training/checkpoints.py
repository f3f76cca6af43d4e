"""Trainings that are done, kept in files: a run that was interrupted goes on where it was.

A training depends on what it learns from, on how it is done and on nothing else, so these decide the name of its file:
one with other prices, settings or seed has another name, and is done anew.
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

import keras
import numpy as np
import tensorflow as tf

from models.errors import ModelError
from models.training.trainer import Epoch, Examples, Weights

__all__ = ["Checkpoints", "digest_examples", "name_training"]


def digest_examples(examples: Examples) -> str:
    """Return the digest of everything that there is to learn from."""
    digest = blake2b(digest_size=16)
    for field in fields(Examples):
        part = np.ascontiguousarray(getattr(examples, field.name))
        digest.update(f"{field.name} {part.dtype} {part.shape} ".encode())
        digest.update(part.data)
    return digest.hexdigest()


def name_training(facts: dict[str, Any], start: Weights | None) -> str:
    """Return the name of a training: the digest of what is said of it, of its start, and of who does it."""
    made_with = {"keras": keras.version(), "tensorflow": tf.version.VERSION, "models": _digest_code()}
    digest = blake2b(json.dumps(facts | made_with, sort_keys=True).encode(), digest_size=16)
    for array in start or []:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


_CODE: Final = Path(__file__).parents[1]
"""The package `models`, whose every folder can change what a training comes to."""


@cache
def _digest_code() -> str:
    """Return the digest of everything in models/: another nextday may train otherwise."""
    digest = blake2b(digest_size=16)
    for file in sorted(_CODE.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Checkpoints:
    """The trainings in a folder.

    Attributes:
        folder: Where they lie; it need not exist yet.
    """

    folder: Path

    def read(self, name: str) -> tuple[Weights, list[Epoch]] | None:
        """Return a training, None where it was not done, or where its file is damaged."""
        try:
            with self._path(name).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                epochs = [Epoch(**epoch) for epoch in json.loads(str(file["epochs"]))]
                return [file[f"weight_{place}"] for place in range(len(file.files) - 1)], epochs
        except (OSError, EOFError, ValueError, KeyError, TypeError, RuntimeError, BadZipFile):
            return None

    def write(self, name: str, weights: Weights, epochs: list[Epoch]) -> None:
        """Keep a training, whole or not at all.

        Raises:
            ModelError: the disk refuses.
        """
        half = self._path(name).with_suffix(".half.npz")
        parts: dict[str, Any] = {f"weight_{place}": array for place, array in enumerate(weights)}
        parts["epochs"] = json.dumps([asdict(epoch) for epoch in epochs])
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with half.open("wb") as file:
                np.savez(file, **parts)
                file.flush()
                os.fsync(file.fileno())  # else a power cut may leave the new name with nothing behind it
            half.replace(self._path(name))
        except OSError as error:
            raise ModelError(
                f"a finished training cannot be kept: {error.strerror or error}",
                where=str(self.folder),
                fix="make room on that disk, then run this again: what is finished is not done again",
            ) from None
        finally:
            with suppress(OSError):
                half.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npz"
