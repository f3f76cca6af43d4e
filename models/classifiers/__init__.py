"""Classifiers of scikit-learn that forecast: fitted as the baselines are, calibrated and saved as the networks are.

May import `baselines`, `ensembles` and below.
"""
