"""What exchanges and issuers decide: calendars, closures, universes of symbols, splits and dividends.

May import `config` and the ground floor.
"""
