"""MLflow's page opens by itself, once it is served, and only where somebody sees it."""

import subprocess
import sys
import webbrowser
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from flows.runtime import browser


def test_a_page_is_opened_when_it_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: not opened.append(url))

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        url = f"http://127.0.0.1:{server.server_port}/#/experiments/1"
        Thread(target=server.handle_request, daemon=True).start()
        assert browser.open_when_served(url)
    assert opened == [url]
    assert not browser.open_when_served(url, patience=0.1)
    assert opened == [url]


def test_a_service_or_a_remote_shell_has_no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False, raising=False)
    assert not browser.has_screen()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert browser.has_screen()
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert not browser.has_screen()


def test_the_page_is_opened_by_a_process_that_outlives_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(subprocess, "Popen", lambda command, **how: started.append(command))
    browser.open_later("http://127.0.0.1:5000/#/experiments/1")
    assert started == [
        [sys.executable, "-m", "flows.runtime.browser", "http://127.0.0.1:5000/#/experiments/1"]
    ]
