"""IncReg: incremental regularization of columns and rows, to given ratios or to an accuracy."""
