"""Send one message to one address through apprise, within a time limit and without repeating the address anywhere."""

import logging
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from pipeline.errors import printable

__all__ = ["call_within", "deliver", "plain_text", "resolve", "silence_clients"]

_PATIENCE: Final = 60.0
"""Seconds that one address may take, attachments included."""

_CLIENTS: Final = ("apprise", "httpx", "httpcore", "urllib3", "requests")
"""Loggers of the clients, which may write an address."""

_NEUTRAL: Final = str.maketrans({"<": "‹", ">": "›", "@": "@\N{ZERO WIDTH SPACE}"})
"""What services read as tags, links and mentions: <!channel>, <b>, @everyone."""


def resolve(name: str) -> str:
    """Return the address that a setting like "env:NEXTDAY_TELEGRAM" names; empty where the variable is not set."""
    return os.environ.get(name.removeprefix("env:"), "").strip()


def plain_text(text: str) -> str:
    """Return a text in which no service finds markup, a link, a mention or a control character; lines stay."""
    return printable(text).replace("\t", " ").translate(_NEUTRAL)


def deliver(name: str, title: str, body: str, attached: Sequence[Path] = ()) -> str:
    """Send a message, and return what went wrong in words that do not contain the address; empty where it was sent.

    Args:
        name: The setting that names the address, "env:NAME".
        title: One line; the subject of a mail.
        body: Plain text; markup in it is shown as it is.
        attached: Files to attach where the service takes any; those that do not exist are left out.
    """
    address = resolve(name)
    if not address:
        return f"the environment variable {name.removeprefix('env:')} is not set"
    return call_within(_PATIENCE, lambda: _send(address, title, body, attached))


def call_within(seconds: float, work: Callable[[], str]) -> str:
    """Return what `work` returns, or what went wrong: it took too long, or raised an error.

    It is called in a thread of its own, which nobody waits for any longer: a name server that does not answer has no
    time limit otherwise.
    """
    answer: list[str] = []

    def call() -> None:
        try:
            answer.append(work())
        except Exception as error:  # its text may contain the address
            answer.append(f"an error of the client: {type(error).__name__}")

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    return answer[0] if answer else f"no answer within {seconds:.0f} seconds"


def silence_clients() -> None:
    """Let no client log anything from now on in this process: their lines contain addresses."""
    for name in _CLIENTS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def _send(address: str, title: str, body: str, attached: Sequence[Path]) -> str:
    silence_clients()
    service = _open(address)
    if service is None:
        return "the variable holds no address that apprise knows"
    from apprise import Apprise, AppriseAttachment, NotifyFormat

    if service.notify_format == NotifyFormat.MARKDOWN:
        # Otherwise apprise passes plain text on as if it were Markdown.
        service.notify_format = NotifyFormat.TEXT
    files = [path for path in attached if path.exists()] if service.attachment_support else []
    sender = Apprise(servers=service)
    is_sent = sender.notify(
        body=plain_text(body),
        title=plain_text(title).replace("\n", " "),
        body_format=NotifyFormat.TEXT,
        attach=AppriseAttachment([f"file://{quote(str(path))}" for path in files]) if files else None,
    )
    return "" if is_sent else "the service could not be reached, or refused the message"


def _open(address: str) -> Any:
    """Return apprise's client for an address, None where there is none; it loads no picture and keeps no file."""
    from apprise import Apprise, AppriseAsset

    asset = AppriseAsset(
        app_id="nextday", app_desc="nextday", app_url="", image_url_mask="", image_url_logo=""
    )
    return Apprise.instantiate(address, asset=asset, suppress_exceptions=True)
