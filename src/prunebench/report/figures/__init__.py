"""The figures, one file each: every figure is a function of runs.csv and returns a `Figure`."""
