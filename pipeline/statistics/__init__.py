"""Statistics as pure functions on arrays, each with its formula and its paper: metrics, AUC, bootstrap, tests, power.

New statistics belong here. Nothing here depends on forecasts, models or prices. May import `schema` and `errors`.
"""
