"""The sealed record: forecasts and outcomes in SQLite, append-only, each row in a hash chain.

May import `schema`, `storage` and `errors`.
"""
