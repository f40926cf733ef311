from __future__ import annotations

import copy
import platform
import subprocess
import sys

import pytest
import torch
from torch import nn

from prunebench import testing
from prunebench.criteria.base import Needs
from prunebench.testing import named_layers
from prunebench.training.memory import memory_format

CODE = """
import resource, sys, torch
from prunebench.training.memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):  # a freed block is a little too small for the next aligned one: two are needed
    before = faults()
    torch.ones(9 * 2**20)  # 36 MiB
print(faults() - before)
"""


def page_faults(how: str) -> int:
    command = [sys.executable, "-c", CODE, how]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_memory_that_is_freed_is_used_again_without_new_pages() -> None:
    assert page_faults("returned") > 16  # pages of 4 KiB, or of up to 4 MiB where they are huge
    assert page_faults("kept") < 16


@pytest.mark.parametrize(
    ("narrow", "layout"),
    [
        (nn.Conv2d(7, 8, 1, stride=2), torch.contiguous_format),
        (nn.Conv2d(8, 8, 1, stride=2), torch.channels_last),
        (nn.Conv2d(7, 8, 1), torch.channels_last),
        (nn.Conv2d(7, 8, 3, stride=2), torch.channels_last),
        (nn.Conv2d(16, 8, 1, stride=2, groups=4), torch.contiguous_format),
    ],
)
def test_strided_shortcuts_of_few_channels_are_not_in_channels_last(
    narrow: nn.Conv2d, layout: torch.memory_format
) -> None:
    assert memory_format(nn.Sequential(nn.Conv2d(3, 16, 3), narrow)) == layout


def test_gradients_of_a_narrow_strided_shortcut_are_right() -> None:
    torch.manual_seed(0)
    model = named_layers(
        stem=nn.Conv2d(1, 3, 1),
        shortcut=nn.Conv2d(3, 24, 1, stride=2),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
    )
    found = []
    for network in (model, copy.deepcopy(model).double()):
        run = testing.start(network, testing.toy_data(shape=(1, 32, 32), classes=24))
        inputs, labels = next(run.samples(Needs(samples=12, batch=12)))
        output = run.model(inputs)
        nn.functional.cross_entropy(output, labels).backward()
        found.append(run.params["shortcut.weight"].grad.double())
    assert torch.allclose(*found, rtol=1e-4, atol=1e-7)
