"""Leakage checks: does a feature, a source, a model or the procedure use information of the future?

A new check belongs here, a leak to be planted, and the record of what passed. May import `forecasting`, `evaluation`,
`trading` and below.
"""
