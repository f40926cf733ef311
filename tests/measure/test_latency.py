from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from itertools import chain
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from prunebench.measure import latency
from prunebench.measure.latency import (
    compare_latency,
    time_with_clock,
    time_with_events,
    warm_up,
)


class Noting(nn.Module):
    """Appends its letter to a list at each forward."""

    def __init__(self, calls: list[str], letter: str) -> None:
        super().__init__()
        self.calls, self.letter = calls, letter

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(self.letter)
        return x


def test_the_entry_says_how_it_was_measured(small_net: nn.Module) -> None:
    entry = compare_latency(
        small_net, small_net, (1, 4, 4), batch_size=2, device="cpu", repeats=5, warmup=0
    )
    assert (entry.device_kind, entry.batch_size, entry.repeats) == ("cpu", 2, 5)
    assert (entry.precision, entry.memory_format) == ("fp32", "channels_last")
    assert (entry.warmup, entry.threads) == (0, torch.get_num_threads())
    assert 0 < entry.q25_ms <= entry.median_ms <= entry.q75_ms
    assert entry.speedup == entry.base_median_ms / entry.median_ms


def test_the_modes_are_restored(small_net: nn.Module) -> None:
    small_net.train()
    compare_latency(
        small_net, small_net, (1, 4, 4), batch_size=2, device="cpu", repeats=2, warmup=0
    )
    assert small_net[1].training
    assert int(small_net[1].num_batches_tracked) == 0


def test_networks_take_turns_forth_and_back() -> None:
    calls: list[str] = []
    times = time_with_clock([Noting(calls, "a"), Noting(calls, "b")], torch.zeros(1), 3)
    assert "".join(calls) == "abbaab"
    assert [len(each) for each in times] == [3, 3]


@pytest.mark.parametrize(
    ("rounds", "done"),
    [
        ([10.0, 10.1], 6),  # two alike: 3 + 3 forwards
        ([10.0, 9.0, 8.9], 9),
        ([10.0, 9.0, 8.0], 8),  # never alike: at most 8
    ],
)
def test_warm_up_ends_when_times_are_stable(rounds: list[float], done: int) -> None:
    left = iter(rounds)

    def timer(models: object, images: Tensor, repeats: int) -> list[list[float]]:
        return [[next(left)] * repeats]

    assert warm_up([nn.Identity()], torch.zeros(1), 8 if done == 8 else 30, timer) == done


def test_one_repeat_has_no_quartiles(small_net: nn.Module) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        compare_latency(
            small_net, small_net, (1, 4, 4), batch_size=1, device="cpu", repeats=1, warmup=0
        )


class StubEvent:
    """Notes when it is recorded; the time between two events is 1 ms."""

    calls: list[str]

    def __init__(self, *, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.calls.append("record")

    def elapsed_time(self, end: StubEvent) -> float:
        self.calls.append("read")
        return 1.0


@pytest.fixture
def gpu_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls to a GPU that is not there, in order."""
    calls: list[str] = []
    flush = SimpleNamespace(zero_=lambda: calls.append("flush"))
    monkeypatch.setattr(StubEvent, "calls", calls, raising=False)
    monkeypatch.setattr(torch.cuda, "Event", StubEvent)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: calls.append("synchronize"))
    properties = SimpleNamespace(L2_cache_size=50)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)

    def empty(size: int, *, dtype: torch.dtype, device: torch.device) -> SimpleNamespace:
        assert (size, dtype) == (100, torch.uint8)  # twice the cache
        return flush

    monkeypatch.setattr(torch, "empty", empty)
    return calls


def test_the_cache_is_flushed_before_each_pass_and_the_gpu_awaited_once(
    gpu_calls: list[str],
) -> None:
    models = [Noting(gpu_calls, "a"), Noting(gpu_calls, "b")]
    times = time_with_events(models, torch.zeros(1), 2)
    timed = [["flush", "record", letter, "record"] for letter in "abba"]
    assert gpu_calls == [*chain(*timed), "synchronize", *["read"] * 4]
    assert times == [[1.0, 1.0], [1.0, 1.0]]


def test_warm_up_on_a_gpu_comes_before_the_timing(gpu_calls: list[str]) -> None:
    model = Noting(gpu_calls, "a")
    assert warm_up([model], torch.zeros(1), 60, time_with_events) == 6  # two rounds alike
    assert gpu_calls.count("a") == 6
    assert gpu_calls.count("synchronize") == 2  # one a round
    assert gpu_calls[-4:] == ["synchronize", "read", "read", "read"]


def test_networks_are_warmed_up_before_they_are_timed(
    small_net: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    repeats: list[int] = []

    def timer(models: Sequence[nn.Module], images: Tensor, count: int) -> list[list[float]]:
        assert not any(model.training for model in models)
        assert torch.is_inference_mode_enabled()
        repeats.append(count)
        return [[1.0] * count for _ in models]

    monkeypatch.setattr(latency, "time_with_clock", timer)
    entry = compare_latency(
        small_net, small_net, (1, 4, 4), batch_size=2, device="cpu", repeats=5, warmup=60
    )
    assert repeats == [3, 3, 5]
    assert (entry.warmup, entry.repeats) == (6, 5)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_a_gpu_is_timed_with_events(precision: str) -> None:
    wide, narrow = nn.Conv2d(64, 2048, 3), nn.Conv2d(64, 64, 3)
    entry = compare_latency(
        wide, narrow, (64, 64, 64), batch_size=32, device="cuda", repeats=20, warmup=20,
        precision=precision,
    )  # fmt: skip
    assert entry.device_kind == "cuda"
    assert entry.device == torch.cuda.get_device_name()
    assert entry.speedup > 2
