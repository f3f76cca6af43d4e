"""Statistics as pure functions on arrays, each with its formula and its paper: metrics, AUC, bootstrap, tests, power.

Nothing here knows a forecast, a model or a price; a new statistic belongs here. May import `schema` and `errors`.
"""
