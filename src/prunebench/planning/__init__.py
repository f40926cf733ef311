"""From configuration files to runs: an experiment's grid, its checks, the look-up of one run."""
