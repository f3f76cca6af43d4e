"""Lines of a terminal, broken between words. It imports nothing heavy: every command begins with such a line."""

import re
import textwrap
from typing import Final

__all__ = ["wrap_words"]

_LABEL: Final = re.compile(r" *(?:(?:where|fix): +)?")
_COMMAND: Final = re.compile(r"`[^`]*`|/\S+/bin/.*")
_NO_BREAK: Final = "\N{NO-BREAK SPACE}"


def wrap_words(text: str, width: int) -> str:
    """Break long lines between words, for a terminal of `width` columns, which would break them anywhere.

    Continued lines keep the indentation, below `where:` and `fix:` that of their text. Paths, commands in backticks and
    commands that begin with the path of their program stay on one line, to be copied.
    """
    return "\n".join(_wrap_line(line, width) for line in text.split("\n"))


def _wrap_line(line: str, width: int) -> str:
    label = _LABEL.match(line)
    start = label.end() if label else 0
    whole = line[:start] + _COMMAND.sub(lambda found: found[0].replace(" ", _NO_BREAK), line[start:])
    whole = re.sub(
        rf"^( *\S+) (?=\S{{{width // 2},}})", rf"\1{_NO_BREAK}", whole
    )  # no first line of one word
    wrapped = textwrap.fill(
        whole,
        width,
        subsequent_indent=" " * start,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return wrapped.replace(_NO_BREAK, " ") or line
