"""Statistics as pure functions on arrays, each with its formula and its paper: metrics, AUC, bootstrap, tests, power.

New statistics belong here, as long as they depend on no forecast, model or price. May import `schema` and `errors`.
"""
