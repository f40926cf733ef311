from __future__ import annotations

from pathlib import Path

import pytest

from prunebench.experiments.machine import processor_name


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ("fpu sse2 avx2 avx512f avx512_bf16", "AMD EPYC (AVX-512)"),
        ("fpu sse2 avx avx2", "AMD EPYC (AVX2)"),
        ("fpu sse2", "AMD EPYC"),
    ],
)
def test_a_processor_is_named_with_its_vector_instructions(
    flags: str, name: str, tmp_path: Path
) -> None:
    info = tmp_path / "cpuinfo"
    core = f"processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: {flags}\n\n"
    info.write_text(core + core.replace(": 0", ": 1"), encoding="utf-8")
    assert processor_name(info) == name


def test_a_machine_without_that_file_has_a_name(tmp_path: Path) -> None:
    assert processor_name(tmp_path / "missing")
