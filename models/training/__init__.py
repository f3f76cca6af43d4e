"""How a network learns: the training loop, examples, jobs, the process pool, checkpoints of finished trainings.

May import `networks` and below.
"""
