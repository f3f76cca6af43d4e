"""What was trained, tried and promoted: MLflow runs and metrics, the registry of champions, the list of trials.

May import `statistics`, `config`, `formatting`, `storage` and the ground floor.
"""
