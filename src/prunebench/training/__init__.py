"""Training: one loop that runs the phases of any method, and resumes them bit for bit.

It knows no method, network or data set by name. Phases say how to train, methods fill in hooks, and
a checkpoint holds everything that either of them changes.
"""
