"""The hyperparameter search: the flow, its search space, sampler and objective.

The only package that imports Optuna. May import `evening` and below.
"""
