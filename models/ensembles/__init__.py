"""Networks by seed, pooled or per symbol, or a user's model: fitted, calibrated, saved and loaded as one forecaster.

May import `training` and below.
"""
