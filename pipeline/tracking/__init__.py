"""Tracking of trainings, trials and promotions: MLflow runs and metrics, the registry of champions, the trials.

May import `statistics`, `config`, `formatting`, `storage` and the ground floor.
"""
