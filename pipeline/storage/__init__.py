"""The workspace on disk: its layout, atomic writes, locks, reading and writing small CSV tables.

Nothing here depends on prices or forecasts. May import `errors`.
"""
