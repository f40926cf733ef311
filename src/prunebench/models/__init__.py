"""Networks, one file per family, for images of any size; `registry` builds them by name.

Networks are plain torch modules. Each layer of a classifier is a module that is used once, and
`labels()` returns the stage and block of each layer. Detectors lie in `detection`; they share their
heads between the levels of a pyramid and have no labels.
"""
