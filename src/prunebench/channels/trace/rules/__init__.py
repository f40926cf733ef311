"""Rules of operations: the effect of each on the channels that pass through it."""
