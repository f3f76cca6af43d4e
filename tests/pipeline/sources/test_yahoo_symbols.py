"""Yahoo's notation of symbols."""

import pytest

from pipeline.sources.yahoo_symbols import is_isin, is_same_symbol, suggest_symbol


@pytest.mark.parametrize(
    ("symbol", "written"),
    [
        ("BRK.B", "BRK-B"),
        ("brk/b", "BRK-B"),
        ("BF_B", "BF-B"),
        ("RCI.B.TO", "RCI-B.TO"),
        ("AAPL.US", "AAPL"),
        ("BRK.B.US", "BRK-B"),
        ("VOD.L", None),  # one letter may be an exchange: London, Frankfurt, Tokyo, TSX Venture
        ("7203.T", None),
        ("BRK-B", None),
        ("MC.PA", None),
        ("^GSPC", None),
        ("DX-Y.NYB", None),
    ],
)
def test_another_vendors_notation_is_recognised(symbol: str, written: str | None) -> None:
    assert suggest_symbol(symbol) == written


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("US0378331005", True),
        ("us0378331005", True),
        ("AAPL", False),
        ("GB0002634946.L", False),
        ("0P0000XVKD.F", False),
    ],
)
def test_an_isin_is_told_from_a_symbol(text: str, expected: bool) -> None:
    assert is_isin(text) is expected


@pytest.mark.parametrize(
    ("asked", "stated", "expected"),
    [
        ("aapl", "AAPL", True),
        ("USDJPY=X", "JPY=X", True),
        ("EURUSD=X", "EURUSD=X", True),
        ("AAA", "BBB", False),
        ("AAA", "AAA.L", False),
    ],
)
def test_an_answer_belongs_to_its_symbol(asked: str, stated: str, expected: bool) -> None:
    assert is_same_symbol(asked, stated) is expected
