"""Leakage checks: does a feature, a source, a model or the procedure use information of the future?

A new check belongs here, together with the record of what passed. May import `forecasting`, `features` and below.
"""
