"""Coupled channels: which slices of which parameters must be removed together, and removal.

`trace` runs a network once and finds its groups of coupled channels, `mask` and `remove` prune
units, `costs_of` counts the costs of the remaining network, and `verify` checks that the smaller
network computes the same as the masked one. Nothing here depends on an architecture, a method or a
data set.
"""
