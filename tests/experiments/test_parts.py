from __future__ import annotations

from typing import Any

from prunebench.experiments.parts import Part, Parts
from prunebench.experiments.resolved import Resolved


def resolved(**widths_from: str | None) -> Resolved:
    """Return runs of one network, by name, and the run whose widths each one takes."""
    shared = {"experiment": "e", "dataset": "d", "architecture": "a", "base_path": "base"}
    runs: dict[str, Any] = {
        name: shared | {"widths_from": source} for name, source in widths_from.items()
    }
    return Resolved(runs, {})


def test_runs_are_in_parts_of_the_given_size() -> None:
    parts = Parts(resolved(x=None, y=None, z=None), size=2, for_training=True)
    assert parts.of_network == {"e/d/a": [("x", "y"), ("z",)]}
    assert parts.of_run == {
        "x": Part("e/d/a", 0),
        "y": Part("e/d/a", 0),
        "z": Part("e/d/a", 1),
    }


def test_runs_that_take_the_widths_of_others_are_in_later_parts() -> None:
    runs = resolved(narrow="wide", narrower="narrow", wide=None, other=None)
    assert Parts(runs, size=9, for_training=True).of_network == {
        "e/d/a": [("wide", "other"), ("narrow",), ("narrower",)]
    }


def test_parts_to_measure_keep_the_order() -> None:
    runs = resolved(narrow="wide", wide=None)
    assert Parts(runs, size=9, for_training=False).of_network == {"e/d/a": [("narrow", "wide")]}
