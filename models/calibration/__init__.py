"""From logits to calibrated probabilities: temperature, Platt, isotonic, how to choose among them, and abstention.

Arrays in, arrays out, no TensorFlow. May import `errors`.
"""
