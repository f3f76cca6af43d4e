"""Read nextday.toml: every fault of it is named, each with its place and a fix."""

import difflib
import tomllib
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from pipeline.config import Config
from pipeline.errors import ConfigError, quoted
from pipeline.schema import SYMBOL_FIX

__all__ = ["load"]


def load(path: Path) -> Config:
    """Read nextday.toml.

    Raises:
        ConfigError: the file is missing, is not TOML, or has an unknown key or an invalid value; the message names
            every fault, and for an unknown key the most similar known one.
    """
    try:
        if path.exists() and not path.is_file():  # reading a pipe would never end
            raise OSError("it is not a file")
        return Config.model_validate(tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except FileNotFoundError:
        raise ConfigError(
            "There is no configuration file",
            where=str(path),
            fix="name one with --config FILE, or let `nextday init` write one",
        ) from None
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"The configuration cannot be read: {reason}",
            where=str(path),
            fix="save it as UTF-8 text, or name another file with --config FILE",
        ) from None
    except ValidationError as error:
        raise ConfigError(
            "\n".join(_describe_fault(fault) for fault in error.errors(include_url=False)),
            where=str(path),
            fix="fix the lines named above; the nextday.toml that comes with nextday explains every key",
        ) from None
    except ValueError as error:  # also of a number with thousands of digits
        raise ConfigError(
            f"The configuration is not valid TOML: {error}", where=str(path), fix="fix that line"
        ) from None


_HIDDEN: Final = ("universe.source_options", "context.source_options", "model.options", "notify.", "storage.")
"""Their values may hold a password, so no message repeats them."""


def _describe_fault(fault: Any) -> str:
    place = ".".join(str(part) for part in fault["loc"])
    if place == "prices.proxy":  # its value may hold a password, so it is not shown
        return f"{place}: write http://host:port; one with a password belongs in the variable HTTPS_PROXY"
    if fault["type"] == "string_pattern_mismatch":
        fix = "write a-z, 0-9, - and _, 63 at most" if place == "universe.name" else SYMBOL_FIX
        return f"{place}: {quoted(fault['input'])} is not a valid name; {fix}"
    if fault["type"] != "extra_forbidden":
        is_hidden = isinstance(fault["input"], dict) or place.startswith(_HIDDEN)
        given = "" if is_hidden else f" (given: {quoted(fault['input'])})"
        return f"{place or 'configuration'}: {_format_reason(fault)}{given}"
    section, key = fault["loc"][:-1], str(fault["loc"][-1])
    known = _known_keys(section)
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"known here: {', '.join(known)}"
    return f"{place}: there is no such key; {hint}"


def _format_reason(fault: Any) -> str:
    if fault["type"].startswith("date"):
        return "it is not a date; write 2018-12-31"
    if fault["type"] == "model_type":
        return "it is a section: write [universe] on a line and its keys below it"
    return str(fault["msg"]).removeprefix("Value error, ")


def _known_keys(section: tuple[Any, ...]) -> list[str]:
    if not section:
        return list(Config.model_fields)
    part = Config.model_fields[str(section[0])].annotation
    return list(part.model_fields) if isinstance(part, type) and issubclass(part, BaseModel) else []
