"""One training loop that runs any method's phases, stops anywhere and goes on to the bit.

It knows no method, network or data set by name: phases say what is trained, methods fill in hooks,
and a checkpoint holds everything that either of them changes.
"""
