"""`prunebench pack`: a run as one file that others load and verify."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch

import prunebench as pb

from .conftest import L1


def test_an_unpacked_run_is_loaded_and_verified(call: Any, workplace: Path) -> None:
    code, out, err = call("pack", str(L1), "--to", "packed")
    assert (code, err) == (0, "")
    image = torch.rand(2, 3, 8, 8)
    before, verified = pb.load(L1)(image), call("verify", str(L1))
    shutil.rmtree(L1)
    with zipfile.ZipFile(out.strip()) as packed:
        packed.extractall("results")
    assert torch.equal(pb.load(L1)(image), before)
    assert call("verify", str(L1)) == verified


def test_the_same_run_gives_the_same_bytes(call: Any, workplace: Path) -> None:
    files = [Path(call("pack", str(L1), "--to", to)[1].strip()) for to in ("a", "b")]
    for path in L1.iterdir():
        path.touch()
    assert files[0].name == f"{str(L1.relative_to('results')).replace('/', '-')}.zip"
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_damaged_run_is_not_packed(call: Any, workplace: Path) -> None:
    (L1 / "history.csv").write_text("damaged", encoding="utf-8")
    code, _, err = call("pack", str(L1), "--to", "packed")
    assert code == 1
    assert f"{L1 / 'history.csv'}: SHA-256 is" in err
    assert not Path("packed").exists()
