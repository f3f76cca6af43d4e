"""The address of a server in [storage]: written in the settings, or held by an environment variable that they name."""

import os
from collections.abc import Callable
from urllib.parse import SplitResult, urlsplit

from pipeline.errors import InputError

__all__ = ["read_address"]


def read_address(
    address: str, *, where: str, service: str, fix: str, is_usable: Callable[[SplitResult], bool]
) -> SplitResult:
    """Return the parts of an address.

    Args:
        address: The address, or "env:NAME": the environment variable NAME holds it, and may then hold a password.
        where: The setting.
        service: Whose address it is, with its article, for the error.
        fix: What to write instead.
        is_usable: Whether the parts are those of such an address; it may raise ValueError where they are not.

    Raises:
        InputError: the variable is not set, or the address is none of this service; it is not repeated.
    """
    name = address.removeprefix("env:")
    given = os.environ.get(name, "") if name != address else address
    try:
        parts = urlsplit(given)
        if parts.port != 0 and is_usable(parts):
            return parts
    except ValueError:
        pass
    raise InputError(
        f"The environment variable {name} holds no address of {service}"
        if name != address
        else f"This is no address of {service}",
        where=where,
        fix=fix,
    )
