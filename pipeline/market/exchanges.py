"""The calendar of a symbol's exchange, by time zone and, where several exchanges share one, by Yahoo's suffix."""

from typing import Final

__all__ = ["EXCHANGES", "suggest_calendar"]

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
