"""Where forecasts are shown and recorded: the site, MLflow and Prefect, the user's git repository, an object store.

Nothing here changes what is sealed, and no failure here costs a forecast. May import `training` and below.
"""
