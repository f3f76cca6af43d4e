"""Where Prefect's settings come from, and whether it can read them: before it is imported for good.

Prefect reads the environment, its profile, and .env, prefect.toml and pyproject.toml of the current folder, which may
be another project's.
"""

import os
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Final

from pipeline.errors import ConfigError

__all__ = ["list_sources", "require_settings"]

_FILES: Final = {".env": "PREFECT_", "prefect.toml": "", "pyproject.toml": "tool.prefect"}
"""The files of the current folder that Prefect reads, each with what its settings for Prefect contain."""

_OWN: Final = frozenset(
    {"PREFECT_HOME", "PREFECT_SERVER_ANALYTICS_ENABLED", "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"}
)
"""Variables that nextday itself sets where they are missing."""


def require_settings() -> None:
    """Raise unless Prefect can read its settings.

    Raises:
        ConfigError: it cannot; the message names the settings, and the variables and files that they may come from.
    """
    try:
        import_module("prefect.settings").get_current_settings()
    except Exception as error:  # of pydantic, of TOML, of a decoder, of a missing home folder
        variables = [name for name in os.environ if name.startswith("PREFECT_") and name not in _OWN]
        raise ConfigError(
            f"Prefect cannot read its settings: {_describe(error)}",
            where=", ".join([*sorted(variables), *list_sources()])
            or "the environment, or files of the current folder",
            fix="correct what is named above or unset it; settings of another project: run nextday from another folder",
        ) from None


def list_sources() -> list[str]:
    """Return the files that Prefect takes settings from: those of the current folder, and its profiles."""
    found = [Path(name).absolute() for name, part in _FILES.items() if _contains(Path(name), part)]
    profiles = Path(
        os.environ.get("PREFECT_PROFILES_PATH")
        or Path(os.environ.get("PREFECT_HOME", "~/.prefect")) / "profiles.toml"
    )
    with suppress(RuntimeError):  # ~ of a user who does not exist
        profiles = profiles.expanduser()
    return [str(path) for path in (*found, *([profiles] if profiles.is_file() else []))]


def _contains(path: Path, part: str) -> bool:
    try:
        return part in path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def _describe(error: Exception) -> str:
    errors = getattr(error, "errors", None)
    if errors is None:
        return " ".join(str(error).split()) or type(error).__name__
    faults = [fault for fault in errors() if fault["type"] != "default_factory_not_called"]
    return "; ".join(
        f"{'.'.join(map(str, fault['loc']))} = {fault['input']!r:.60}: {fault['msg']}" for fault in faults
    )
