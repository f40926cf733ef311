"""Foundations: errors, files, and lookup by name.

Nothing here imports torch or pandas: the workflow reads this folder in every job.
"""
