"""Importance criteria, grouped by their input: weights, gradients, curvature, masks.

A criterion gives each unit of a coupled group a score; higher scores are kept. Every criterion is
also a one-shot method, and a value of the option `criterion` of other methods.
"""
