import pytest

from pipeline.errors import NextdayError


@pytest.mark.parametrize(
    "text",
    [
        "https://me:secret@host/prices.csv",
        "/srv/http:/me:secret@host/x",
        "proxy socks5://:secret@host:1",
        "x://me:secret@",
    ],
)
def test_a_password_in_a_url_is_never_repeated(text: str) -> None:
    error = NextdayError(f"{text} cannot be read", where=text, fix=f"correct {text}")
    assert "secret" not in str(error)
    assert "secret" not in repr(error)
    assert "..." in error.where


@pytest.mark.parametrize(
    "text", ["http://127.0.0.1:4200/api", "mail to me@host", "prices: https://host/a@b", "at 12:30 @ x"]
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert NextdayError("w", where=text).where == text


def test_control_characters_are_named_and_never_printed() -> None:
    error = NextdayError(
        "a key \x1b]0;title\x07", where="file\r\x9b31m", fix="two\nlines, \u00e9 and \u202etxt"
    )
    assert error.what == r"a key \x1b]0;title\x07"
    assert error.where == r"file\r\x9b31m"
    assert error.fix == "two\nlines, \u00e9 and \\u202etxt"
