"""The networks, one file per family, for images of any size; `registry` builds them by name.

They are plain torch modules: each layer is a module that is used once, and `labels()` says in
which stage and block a layer stands. Detectors, whose heads are shared by the levels of a pyramid,
have no labels.
"""
