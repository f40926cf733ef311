"""From configuration files to runs: the grid of an experiment, its checks, look-up of one run."""
