from __future__ import annotations

from typing import Annotated

import pytest

from prunebench.experiments.settings import Grows, Settings, Shrinks, shortened


class Penalty(Settings):
    steps: Annotated[int, Shrinks()] = 1000
    cap: Annotated[int | None, Shrinks()] = None
    delta: Annotated[float, Grows(most="ceiling")] = 0.001
    decrease: Annotated[float, Grows(power=2)] = 0.5
    ceiling: float = 1.0
    epochs_at_least: int = 7


def test_steps_shrink_and_increments_grow() -> None:
    short = shortened(Penalty(cap=50), 0.25)
    assert short == Penalty(cap=12, steps=250, delta=0.004, decrease=8.0)  # 0.5 / 0.25^2


def test_unmarked_fields_and_zeros_stay() -> None:
    short = shortened(Penalty(steps=0, decrease=0), 0.25)
    assert short == Penalty(steps=0, decrease=0, delta=0.004)


def test_at_least_one_step_remains_and_increments_stay_below_their_limit() -> None:
    short = shortened(Penalty(), 1e-5)
    assert (short.steps, short.delta) == (1, 1.0)


def test_scale_one_changes_nothing() -> None:
    assert shortened(Penalty(), 1) == Penalty()
    assert shortened(Penalty(), 1).decrease == pytest.approx(0.5)
