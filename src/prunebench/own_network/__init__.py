"""Prune a network of your own with your own data, in one call: `prunebench.prune` and its result.

The call runs criteria and methods as experiments do, on the batches of any loader. Nothing here
needs an experiment, a registered network or a registered data set.
"""
