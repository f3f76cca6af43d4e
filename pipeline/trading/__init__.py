"""Simulated trading of the forecasts: fills at open and close, positions, costs, performance.

No forecast depends on it. May import `features`, `statistics`, `config`, `formatting` and what lies below them.
"""
