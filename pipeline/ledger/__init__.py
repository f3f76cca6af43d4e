"""The sealed record: forecasts and outcomes in SQLite, append-only, each batch part of a hash chain.

May import `schema`, `storage` and `errors`.
"""
