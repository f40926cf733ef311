"""The coupling engine: which slices of which parameters leave together, what they cost, removal.

`trace` runs a network once and finds its groups of channels, `mask` and `remove` take units out,
`costs_of` counts what is left, `verify` checks that a smaller network computes what the masked one
does. Nothing here knows an architecture, a method or a data set.
"""
