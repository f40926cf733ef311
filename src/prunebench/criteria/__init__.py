"""Importance criteria, by what they look at: weights, gradients, curvature, masks.

A criterion gives each unit of a coupled group a score; higher scores are kept. Every criterion is
also a one-shot method and can be the `criterion:` of other methods.
"""
