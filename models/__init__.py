"""Arrays in, probabilities out; it knows no pandas, no Prefect and no calendar."""
