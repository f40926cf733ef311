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


def test_steps_become_fewer_and_what_is_added_in_each_grows() -> None:
    short = shortened(Penalty(cap=50), 0.25)
    assert short == Penalty(cap=12, steps=250, delta=0.004, decrease=8.0)  # 0.5 / 0.25^2


def test_what_has_no_mark_and_what_is_off_stays() -> None:
    short = shortened(Penalty(steps=0, decrease=0), 0.25)
    assert short == Penalty(steps=0, decrease=0, delta=0.004)


def test_a_step_is_left_and_a_ceiling_is_not_passed_at_once() -> None:
    short = shortened(Penalty(), 1e-5)
    assert (short.steps, short.delta) == (1, 1.0)


def test_the_whole_run_is_as_it_was() -> None:
    assert shortened(Penalty(), 1) == Penalty()
    assert shortened(Penalty(), 1).decrease == pytest.approx(0.5)
