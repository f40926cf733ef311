from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from prunebench.training.train import only_writer

HOLD = """
import sys, time
from pathlib import Path
from prunebench.training.train import only_writer
with only_writer(Path(sys.argv[1]), print):
    print("held", flush=True)
    time.sleep(60)
"""


def hold(folder: Path) -> subprocess.Popen[str]:
    """Start a process that holds the folder's lock."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_writer_waits_for_a_living_one(tmp_path: Path) -> None:
    process, said = hold(tmp_path), []
    threading.Timer(0.5, process.terminate).start()
    with only_writer(tmp_path, said.append) as waited:
        assert process.wait() != 0  # it got the lock when the first was gone
    assert waited
    assert "another process writes this run" in said[0]


def test_a_dead_writer_is_taken_over_from_at_once(tmp_path: Path) -> None:
    process = hold(tmp_path)
    process.kill()
    process.wait()
    with only_writer(tmp_path, print) as waited:
        assert not waited
