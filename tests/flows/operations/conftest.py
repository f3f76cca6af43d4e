"""A workspace that the doctor examines, on a machine without a Prefect server."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prefect.context import SettingsContext, get_settings_context
from prefect.settings import PREFECT_API_URL, Settings, temporary_settings

from flows.operations.doctor import examine
from flows.operations.health import HealthCheck

NOBODY = "http://127.0.0.1:9/api"
NOW = datetime(2018, 12, 20, 22, tzinfo=UTC)


@pytest.fixture(scope="session")
def settings_without_server() -> Settings:
    """Return Prefect's settings with the address of nobody: to read them all again takes a tenth of a second."""
    with temporary_settings({PREFECT_API_URL: NOBODY}) as settings:
        return settings


@pytest.fixture
def no_server(settings_without_server: Settings) -> Iterator[None]:
    with SettingsContext(profile=get_settings_context().profile, settings=settings_without_server):
        yield


class Patient:
    """A workspace to check."""

    def __init__(self, folder: Path) -> None:
        self.config, self.home = folder / "nextday.toml", folder / "w"
        self.config.write_text("[prices]\nstart = 2018-11-01\n")

    def complaint(self, words: str) -> HealthCheck:
        """Return the one failed check whose text contains these words."""
        found = [item for item in examine(self.config, self.home, NOW) if not item.is_passed]
        (said,) = [item for item in found if words in item.what]
        assert said.fix
        return said

    @property
    def praise(self) -> str:
        return "\n".join(item.what for item in examine(self.config, self.home, NOW) if item.is_passed)


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    return Patient(tmp_path)
