"""What the forecasts would have earned: fills at open and close, positions, costs, performance.

No forecast depends on it. May import `features`, `statistics`, `config`, `formatting` and the ground floor.
"""
