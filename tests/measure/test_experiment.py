from __future__ import annotations

from pathlib import Path

import pytest
import torch

from prunebench.core.errors import ConfigError
from prunebench.measure.stored_runs import measure_runs


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_not_replaced_by_the_cpu(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'cuda' is asked for and this machine has none"):
        list(measure_runs([], tmp_path, only="latency", device="cuda"))
