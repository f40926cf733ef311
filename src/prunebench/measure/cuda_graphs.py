"""CUDA graphs: a function of tensors is captured once and then replayed.

A graph repeats the same kernels on the same addresses, without the time that PyTorch needs to
launch each of them. Training steps and timed passes are captured here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

WARM_UP = 3  # calls before a capture; in the first ones libraries choose kernels and allocate


class CudaGraphs:
    """Captures CUDA graphs, which share their memory."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.pool: Any = None

    def warm_up(self, function: Callable[[], None]) -> None:
        """Call the function on a side stream, as PyTorch requires before a capture."""
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            function()
        torch.cuda.current_stream(self.device).wait_stream(self.stream)

    def record(self, function: Callable[[], None]) -> Callable[[], None]:
        """Capture a call, which does not run, and return its replay."""
        graph = torch.cuda.CUDAGraph()
        # A loader thread may pin memory meanwhile, which the strictest mode forbids to all threads.
        with torch.cuda.graph(
            graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"
        ):
            function()
        self.pool = graph.pool()
        replay: Callable[[], None] = graph.replay
        return replay
