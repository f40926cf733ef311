"""Pruning methods, one file each: what a method decides, and when, as phases, hooks and plans.

A method sees groups and tensors; it contains no loop, no data loader and no network's layer names.
"""
