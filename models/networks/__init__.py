"""Recurrent networks of stock Keras layers, and the layers with hand-written back-propagation that train them faster.

A new architecture belongs here. May import `windows`, `threads` and below.
"""
