"""Results for people: the tidy table of runs, and the tables and figures drawn from it.

`collect` reads the folders of finished runs into `runs.csv`, one row per run; everything else here
is a function of that one file. Nothing in this folder imports torch, and matplotlib is imported by
the figures alone, so that collecting and tables start at once.
"""
