"""The calendar of a symbol's exchange, by time zone and, where several exchanges share one, by Yahoo's suffix."""

import difflib
from collections.abc import Iterable
from typing import Final

__all__ = ["EXCHANGES", "suggest_calendar", "suggest_names"]

EXCHANGES: Final = {
    "XNYS": ("America/New_York", ""),
    "XTSE": ("America/Toronto", "TO V CN NE"),
    "XMEX": ("America/Mexico_City", "MX"),
    "BVMF": ("America/Sao_Paulo", "SA"),
    "XBUE": ("America/Argentina/Buenos_Aires", "BA"),
    "XSGO": ("America/Santiago", "SN"),
    "XLIM": ("America/Lima", ""),
    "XLON": ("Europe/London", "L IL AQ XC"),
    "XDUB": ("Europe/Dublin", "IR"),
    "XETR": ("Europe/Berlin", "DE BE BM DU HA HM MU"),
    "XFRA": ("Europe/Berlin", "F"),
    "XSTU": ("Europe/Berlin", "SG"),
    "XPAR": ("Europe/Paris", "PA"),
    "XAMS": ("Europe/Amsterdam", "AS"),
    "XBRU": ("Europe/Brussels", "BR"),
    "XLUX": ("Europe/Luxembourg", ""),
    "XLIS": ("Europe/Lisbon", "LS"),
    "XMAD": ("Europe/Madrid", "MC"),
    "XMIL": ("Europe/Rome", "MI TI"),
    "XSWX": ("Europe/Zurich", "SW"),
    "XWBO": ("Europe/Vienna", "VI"),
    "XPRA": ("Europe/Prague", "PR"),
    "XWAR": ("Europe/Warsaw", "WA"),
    "XBUD": ("Europe/Budapest", "BD"),
    "XBSE": ("Europe/Bucharest", "RO"),
    "ASEX": ("Europe/Athens", "AT"),
    "XSTO": ("Europe/Stockholm", "ST"),
    "XHEL": ("Europe/Helsinki", "HE"),
    "XCSE": ("Europe/Copenhagen", "CO"),
    "XOSL": ("Europe/Oslo", "OL"),
    "XICE": ("Atlantic/Reykjavik", "IC"),
    "XTAL": ("Europe/Tallinn", "TL"),
    "XRIS": ("Europe/Riga", "RG"),
    "XLIT": ("Europe/Vilnius", "VS"),
    "XIST": ("Europe/Istanbul", "IS"),
    "XTAE": ("Asia/Tel_Aviv", "TA"),
    "XSAU": ("Asia/Riyadh", "SR"),
    "XJSE": ("Africa/Johannesburg", "JO"),
    "XBOM": ("Asia/Kolkata", "BO NS"),
    "XKAR": ("Asia/Karachi", "KA"),
    "XBKK": ("Asia/Bangkok", "BK"),
    "XIDX": ("Asia/Jakarta", "JK"),
    "XKLS": ("Asia/Kuala_Lumpur", "KL"),
    "XSES": ("Asia/Singapore", "SI"),
    "XPHS": ("Asia/Manila", "PS"),
    "XHKG": ("Asia/Hong_Kong", "HK"),
    "XSHG": ("Asia/Shanghai", "SS SZ"),
    "XTAI": ("Asia/Taipei", "TW TWO"),
    "XKRX": ("Asia/Seoul", "KS KQ"),
    "XTKS": ("Asia/Tokyo", "T"),
    "XASX": ("Australia/Sydney", "AX XA"),
    "XNZE": ("Pacific/Auckland", "NZ"),
}
"""Time zone and Yahoo's symbol suffixes by the name in exchange_calendars; where several share a time zone, the most
common exchange comes first."""

_NAMES: Final = {
    "XNYS": "NYSE NASDAQ AMEX ARCA BATS IEX XNAS XASE NMS NYQ US USA AMERICA",
    "XTSE": "TSX TSXV XTSX NEO CSE XCNQ CANADA",
    "XMEX": "BMV MEXICO",
    "BVMF": "B3 BOVESPA BVSP BMFBOVESPA BRAZIL",
    "XBUE": "BCBA BYMA MERVAL ARGENTINA",
    "XSGO": "CHILE",
    "XLIM": "BVL PERU",
    "XLON": "LSE AIM FTSE UK ENGLAND BRITAIN",
    "XDUB": "ISE IRELAND",
    "XETR": "XETRA GETTEX TRADEGATE DAX XBER XMUN XHAN GERMANY",
    "XFRA": "FSE FWB FRANKFURT",
    "XSTU": "STUTTGART",
    "XPAR": "EURONEXT ENX CAC FRANCE",
    "XAMS": "EURONEXT ENX AEX NETHERLANDS HOLLAND",
    "XBRU": "EURONEXT ENX BEL BELGIUM",
    "XLIS": "EURONEXT ENX PSI PORTUGAL",
    "XMAD": "BME IBEX SPAIN",
    "XMIL": "MTA MTAA BIT MIB MILAN BORSAITALIANA ITALY",
    "XSWX": "SIX SMI EBS SWITZERLAND",
    "XWBO": "WBAG ATX AUSTRIA",
    "XPRA": "PX CZECHIA",
    "XWAR": "GPW WSE WIG POLAND",
    "XBUD": "BET HUNGARY",
    "XBSE": "BVB ROMANIA",
    "ASEX": "ATHEX GREECE",
    "XSTO": "OMX SWEDEN",
    "XHEL": "OMXH FINLAND",
    "XCSE": "OMXC DENMARK",
    "XOSL": "OSE OSEBX NORWAY",
    "XICE": "ICELAND",
    "XIST": "BIST TURKEY TURKIYE",
    "XTAE": "TASE ISRAEL",
    "XSAU": "TADAWUL TASI SAUDI",
    "XJSE": "JSE SOUTHAFRICA",
    "XBOM": "NSE BSE XNSE NSEI NIFTY SENSEX MUMBAI BOMBAY INDIA",
    "XKAR": "PSX KSE PAKISTAN",
    "XBKK": "SET THAILAND",
    "XIDX": "IDX JKT INDONESIA",
    "XKLS": "KLSE BURSA MYX MALAYSIA",
    "XSES": "SGX STI",
    "XPHS": "PSE PHILIPPINES",
    "XHKG": "HKEX SEHK HKG HSI",
    "XSHG": "SSE SHSE SZSE XSHE SHENZHEN CHINA",
    "XTAI": "TWSE TPEX ROCO TAIWAN",
    "XKRX": "KRX KSE KOSPI KOSDAQ XKOS KOREA",
    "XTKS": "TSE JPX TYO TSEJ NIKKEI TOPIX JAPAN",
    "XASX": "ASX AUSTRALIA",
    "XNZE": "NZX NEWZEALAND",
}
"""What people and vendors call an exchange or its country, by the name in exchange_calendars. Its city is known from
EXCHANGES, and a Yahoo suffix may stand for it too."""

_SAME_ZONE: Final = {
    "Asia/Calcutta": "Asia/Kolkata",
    "Asia/Jerusalem": "Asia/Tel_Aviv",
    "America/Buenos_Aires": "America/Argentina/Buenos_Aires",
}


def suggest_calendar(timezone: str, symbol: str) -> str | None:
    """Return the calendar of the exchange in `timezone` where `symbol` trades; None if there is none.

    Args:
        timezone: The IANA name that the source states.
        symbol: In Yahoo's notation; its suffix decides between exchanges in one time zone.
    """
    canonical = _SAME_ZONE.get(timezone, timezone)
    candidates = {name: suffixes.split() for name, (zone, suffixes) in EXCHANGES.items() if zone == canonical}
    suffix = symbol.rpartition(".")[2] if "." in symbol else ""
    return next((name for name, known in candidates.items() if suffix in known), next(iter(candidates), None))


def suggest_names(name: str, known: Iterable[str]) -> list[str]:
    """Return the calendars that a person may mean by `name`: an exchange, a city, a country or a suffix of Yahoo.

    Args:
        name: What was written instead of a calendar.
        known: The names that exchange_calendars knows; without a meaning of its own `name` may be one of them misspelt.
    """
    written = "".join(letter for letter in name.upper() if letter.isalnum())
    meant = [calendar for calendar, names in _NAMES.items() if written in names.split()]
    for calendar, (zone, suffixes) in EXCHANGES.items():
        city = zone.rpartition("/")[2].replace("_", "").upper()
        if calendar not in meant and (written == city or written in suffixes.split()):
            meant.append(calendar)
    return meant or difflib.get_close_matches(name.upper(), list(known), n=3, cutoff=0.4)
