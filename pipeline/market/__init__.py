"""Market reference data: calendars, closures, universes of symbols, splits and dividends.

May import `config` and the ground floor.
"""
