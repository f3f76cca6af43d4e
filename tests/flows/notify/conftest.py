"""Receivers on loopback, one for each kind of address."""

from collections.abc import Iterator

import pytest
from apprise.plugins.slack import NotifySlack
from apprise.plugins.telegram import NotifyTelegram

from tests.support.receivers import Receiver, http_receiver, mail_receiver

SECRET = "s3cr3t-marker"
SLACK = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#news"
TELEGRAM = "tgram://123456789:abcdefg_hijklmnop/12315544/"


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A receiver of HTTP; Slack's and Telegram's clients write to it too, and the variables hold its addresses."""
    with http_receiver() as receiver:
        monkeypatch.setattr(NotifySlack, "webhook_url", f"http://{receiver.host}/services")
        monkeypatch.setattr(NotifyTelegram, "notify_url", f"http://{receiver.host}/bot")
        monkeypatch.setenv("HOOK", f"json://{receiver.host}/{SECRET}")
        monkeypatch.setenv("SLACK", SLACK)
        monkeypatch.setenv("TELEGRAM", TELEGRAM)
        monkeypatch.setenv("BEAT", f"http://{receiver.host}/{SECRET}")
        yield receiver


@pytest.fixture
def mail(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A receiver of mail, and the variable MAIL with its address."""
    with mail_receiver() as receiver:
        address = f"mailto://{receiver.host}?from=nextday@example.com&to=quant@example.com&format=html"
        monkeypatch.setenv("MAIL", address)
        yield receiver
