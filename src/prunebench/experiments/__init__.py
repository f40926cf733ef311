"""Experiments: configuration, recipes, phases, and the specification of a run.

Nothing here imports torch or pandas, because the workflow reads this folder in every job.
"""
