"""Object detectors that can be traced, pruned, trained and counted like any other network.

`detector` says what a detector can do. `pyramid`, `dense`, `anchors` and `selection` are the parts
that several of them share; every other file is one detector or family.
"""
