from __future__ import annotations

import platform
import subprocess
import sys

import pytest

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
