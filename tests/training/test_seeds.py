from __future__ import annotations

import torch

from prunebench.training.run import derived_seed, generator


def test_a_purpose_gives_the_same_number_on_every_machine() -> None:
    assert derived_seed(0, "init") == 1749912909633406932


def test_purposes_do_not_run_into_each_other() -> None:
    seeds = [derived_seed(*purpose) for purpose in ((0, 1, 2), (0, 12), (1, 2), (0, "1", 2))]
    assert len(set(seeds)) == 4


def test_equal_purposes_draw_equal_numbers() -> None:
    first, second = (torch.rand(3, generator=generator(7, "epoch", 4)) for _ in range(2))
    assert torch.equal(first, second)
