"""The contact sheet of the stored figures."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[2]


def sheet(folder: Path, name: str) -> bytes:
    """Write a contact sheet and return its bytes."""
    command = [sys.executable, str(ROOT / "docs" / "contact_sheet.py"), str(folder)]
    out = folder / name
    subprocess.run([*command, "--out", str(out)], check=True, capture_output=True)
    return out.read_bytes()


def test_figures_are_side_by_side_and_continue_on_the_next_page(tmp_path: Path) -> None:
    # 90 x 60 mm twice fits side by side; 180 x 300 mm is taller than a page and needs two more
    for name, size in (("a", (709, 472)), ("b", (709, 472)), ("c", (1417, 2362))):
        path = tmp_path / "digits" / "figures" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, "navy").save(path)
    first = sheet(tmp_path, "first.pdf")
    assert len(re.findall(rb"/Type /Page\b", first)) == 3
    assert first == sheet(tmp_path, "second.pdf")
