"""The hyperparameter search: the flow, its search space, sampler and objective.

Optuna lives only here. May import `evening` and below.
"""
