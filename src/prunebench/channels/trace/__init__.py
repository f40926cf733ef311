"""The tracer: run a network once and find which channels are coupled.

`tracer` runs the network, `rules` say what each operation does to channels, and `units` solves the
result into groups.
"""
