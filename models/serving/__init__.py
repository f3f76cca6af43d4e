"""Forecast with a saved model: NumPy alone, so that an evening need not wait for TensorFlow.

Training stays with `ensembles` and `training`. May import all folders of `models` but `explain`.
"""
