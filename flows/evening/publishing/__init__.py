"""Where an evening's forecasts are shown and recorded: the site, MLflow and Prefect, the user's git repository.

Nothing here changes what is sealed, and no failure here costs a forecast. May import `training` and below.
"""
