"""Pruning methods, one file each: their decisions as phases, hooks and plans.

A method sees groups and tensors; it contains no loop, no data loader and no network's layer names.
"""
