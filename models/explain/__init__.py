"""What a trained network does: how far back it looks, which inputs it uses, whether its gradients vanish.

May import everything in `models` but `baselines`.
"""
