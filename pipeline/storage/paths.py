"""Paths as people write them: with ~ and with variables of the environment."""

import os
from pathlib import Path

__all__ = ["expand"]


def expand(written: str | Path) -> Path:
    """Return the path with ~, ~user, $NAME and ${NAME} filled in; what is not known stays as it is written.

    A path that exists as it is written is meant literally: a file may be named $SPX.csv.
    """
    text = str(written)
    if os.path.lexists(text):
        return Path(text)
    return Path(os.path.expanduser(os.path.expandvars(text)))  # noqa: PTH111 -- Path's own raises without a home
