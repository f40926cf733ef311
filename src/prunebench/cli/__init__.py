"""The command line: one sub-command per stage, the only door that the workflow uses."""
