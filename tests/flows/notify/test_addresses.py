"""One message to one address: real servers on loopback, and text that stays text in every shape."""

import logging
import time
from email.header import decode_header, make_header
from pathlib import Path

import pytest

from flows.notify import addresses
from flows.notify.addresses import call_within, deliver, plain_text
from tests.flows.notify.conftest import SECRET
from tests.support.receivers import Receiver

HOSTILE = (
    "<!channel> <b>x</b> *A*_B_ [a](http://x.example) @everyone &amp; BRK/B\x1b[31m\r\nBcc: all@example.com"
)


def test_a_webhook_receives_title_and_text(web: Receiver) -> None:
    assert deliver("env:HOOK", "nextday sample", "two\nlines") == ""
    (request,) = web.requests
    assert request.path == f"/{SECRET}"
    assert (request.json["title"], request.json["message"]) == ("nextday sample", "two\nlines")


def test_slack_receives_plain_text_without_markup_links_or_mentions(web: Receiver) -> None:
    assert deliver("env:SLACK", "T", HOSTILE) == ""
    (request,) = web.requests
    assert request.json["mrkdwn"] is False
    text = request.json["attachments"][0]["text"]
    assert "*A*_B_" in text  # shown as it is
    assert not {"<", ">", "\x1b"} & {*text}
    assert "@everyone" not in text
    assert "github" not in request.body.decode()  # no picture is loaded from elsewhere


def test_telegram_receives_html_in_which_nothing_is_a_tag(web: Receiver) -> None:
    assert deliver("env:TELEGRAM", "T", HOSTILE) == ""
    (request,) = (each for each in web.requests if each.path.endswith("/sendMessage"))
    assert request.json["parse_mode"] == "HTML"
    body = request.json["text"].replace("<b>T</b>", "")  # the title, which apprise sets in bold
    assert "<" not in body
    assert "&amp;amp;" in body
    assert "*A*_B_" in body


def test_a_mail_has_its_headers_from_nobody_else_and_its_html_without_tags_of_others(mail: Receiver) -> None:
    title = "T\r\nBcc: all@example.com"
    assert deliver("env:MAIL", title, HOSTILE) == ""
    (received,) = mail.mails
    assert received["Bcc"] is None
    assert str(make_header(decode_header(received["Subject"]))).startswith("T")
    assert [line for line in mail.envelopes if line.startswith("RCPT")] == ["RCPT TO:<QUANT@EXAMPLE.COM>"]
    pages = [part for part in received.walk() if part.get_content_type() == "text/html"]
    html = pages[0].get_payload(decode=True)
    assert isinstance(html, bytes)
    assert b"<b>x</b>" not in html
    assert b"<!channel>" not in html
    assert "*A*_B_" in html.decode()


def test_files_are_attached_where_the_service_takes_them(
    mail: Receiver, web: Receiver, tmp_path: Path
) -> None:
    page, lacking = tmp_path / "a b#.csv", tmp_path / "lacking.html"
    page.write_text("symbol,p_up\n")
    for name in ("env:MAIL", "env:SLACK"):
        assert deliver(name, "T", "text", [page, lacking]) == ""
    attached = [part.get_filename() for part in mail.mails[0].walk() if part.get_filename()]
    assert attached == ["a b#.csv"]
    assert len(web.requests) == 1


def test_what_goes_wrong_is_told_without_the_address(
    web: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    web.answer = 500
    monkeypatch.setenv("NOT_KNOWN", f"carrier://{SECRET}")
    monkeypatch.setenv("CLOSED", f"json://127.0.0.1:9/{SECRET}")
    told = [deliver(f"env:{name}", "T", "b") for name in ("HOOK", "NOT_KNOWN", "CLOSED", "NOT_SET")]
    assert told == [
        "the service could not be reached, or refused the message",
        "the variable holds no address that apprise knows",
        "the service could not be reached, or refused the message",
        "the environment variable NOT_SET is not set",
    ]
    out = capfd.readouterr()
    assert SECRET not in caplog.text + out.out + out.err + "".join(told)


def test_an_address_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.monotonic()
    assert call_within(0.05, lambda: time.sleep(5) or "") == "no answer within 0 seconds"
    assert time.monotonic() - began < 2

    def fail() -> str:
        raise OSError(f"cannot connect to {SECRET}")

    assert call_within(5, fail) == "an error of the client: OSError"
    monkeypatch.setattr(addresses, "_open", lambda address: fail())
    monkeypatch.setenv("HOOK", "json://x")
    assert SECRET not in deliver("env:HOOK", "T", "b")


@pytest.mark.parametrize("text", ["<!here>", "@channel", "<a href='http://x'>", "\x1b]0;x\x07", "\u202eabc"])
def test_no_text_of_others_is_more_than_text(text: str) -> None:
    plain = plain_text(text)
    assert not {"<", ">", "\x1b", "\x07", "\u202e"} & {*plain}
    assert "@c" not in plain
