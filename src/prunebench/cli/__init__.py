"""The command line: one sub-command per stage; the rules of the workflow use nothing else."""
