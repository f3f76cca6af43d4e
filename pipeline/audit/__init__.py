"""Leakage checks: does a feature, a source, a model or the procedure know what nobody could have known?

A new check belongs here, together with the record of what passed. May import `forecasting`, `features` and below.
"""
