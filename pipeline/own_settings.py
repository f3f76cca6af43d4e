"""What the settings may say of the user's own code: how it is named, and what it is made with."""

import math
import re
from typing import Final

__all__ = ["RIVALS", "SECRET_NAME", "is_own_code", "plain_options"]

RIVALS: Final = frozenset(
    {
        *("always_up", "base_rate", "last_sign", "reversal", "momentum", "logistic_regression"),
        *("gradient_boosting", "logistic_without_universe", "best_before"),
    }
)
"""Names that stand beside the model's in every table."""

SECRET_NAME: Final = re.compile(r"password|passwd|secret|token|api_?key", re.IGNORECASE)

_OWN_CODE: Final = re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*:[A-Za-z_]\w*", re.ASCII)


def is_own_code(name: str) -> bool:
    """Return whether a name is one of the user's own code, `package.module:Name`."""
    return bool(_OWN_CODE.fullmatch(name))


def plain_options(options: object, *, with_lists: bool = False) -> object:
    """Return what own code is made with: a table of names and plain values, none of them a secret.

    Args:
        options: As it was written.
        with_lists: Whether a value may be a list of plain values too.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(options, dict):
        raise ValueError("write a table, such as { table = 'bars' }")
    for name, value in options.items():
        if SECRET_NAME.search(name) or re.search(r"://[^/\s]*@", str(value)):
            raise ValueError(
                f"{name} looks like a secret, and settings are kept: let the code read it from the environment"
            )
        values = value if with_lists and isinstance(value, list) else [value]
        if not name.isidentifier() or not all(map(_is_plain, values)):
            raise ValueError(
                f"{name}: a name takes text, a number (a finite one), true or false{', or a list of them' * with_lists}"
            )
    return options


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
