"""What is true about prices, time and scores; it knows no Prefect and no TensorFlow."""
