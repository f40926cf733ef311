"""The report of an experiment and the pages of its runs: HTML that works offline, from disk.

The report is one file. The pages of the runs lie beside it and share one script.
"""
