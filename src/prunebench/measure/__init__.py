"""What a network costs and how well it does: operations, parameters, latency, accuracy.

The counting conventions of the papers stand here too, and the form in which a pruned network lies
on disk.
"""
