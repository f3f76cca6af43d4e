"""Numbers that describe a model, to as many digits as every machine computes alike."""

from typing import Final

import numpy as np

__all__ = ["round_diagnostic"]

_DIGITS: Final = 6


def round_diagnostic(value: float | np.floating) -> float:
    """Return the number to six significant digits.

    It is stored with the model, whose version is the digest of its files: what two builds of NumPy sum up differently,
    in the sixteenth digit, must not give equal weights two versions.
    """
    return float(f"{value:.{_DIGITS}g}")
