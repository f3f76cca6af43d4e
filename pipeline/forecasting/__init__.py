"""From sequences to forecasts: the Model protocol, folds, walk-forward, and the one forecast function.

Everything that turns sequences into probabilities outside `models` belongs here. May import `features`, `market`,
`config` and the ground floor.
"""
