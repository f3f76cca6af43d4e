"""Where Prefect's pages are, if they are anywhere."""

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL, temporary_settings

from flows.runtime import temporary_server
from flows.runtime.tracking import prefect_page


def test_a_page_is_below_the_address_of_prefects_pages() -> None:
    with temporary_settings({PREFECT_UI_URL: "http://desk:4200"}):
        assert prefect_page("artifacts/artifact/a1") == "http://desk:4200/artifacts/artifact/a1"


def test_without_a_server_there_is_no_page() -> None:
    with temporary_settings(restore_defaults={PREFECT_UI_URL, PREFECT_API_URL}):
        assert prefect_page("runs") == ""


def test_a_temporary_server_has_no_page_that_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporary_server, "_running", True)
    with temporary_settings({PREFECT_UI_URL: "http://desk:4200"}):
        assert prefect_page("runs") == ""
