"""What every other part rests on: run specifications, lookup by name, errors, result files.

Nothing here imports torch or pandas: the workflow reads this folder in every job.
"""
