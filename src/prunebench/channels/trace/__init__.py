"""The tracer: run a network once and find which channels are coupled.

`tracer` runs the network, `rules` follow the channels through each operation, and `units` turns the
result into groups.
"""
