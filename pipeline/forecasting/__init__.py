"""From sequences to forecasts: the Model protocol, folds, walk-forward, and the one forecast function.

Code outside `models` that turns sequences into probabilities belongs here. May import `features`, `market`,
`config` and the ground floor.
"""
