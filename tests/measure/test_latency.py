from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import chain
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from prunebench.core.errors import ModelError
from prunebench.measure import latency
from prunebench.measure.latency import (
    captured,
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
    assert (entry.warmup, entry.threads, entry.mode) == (0, 1, "eager")
    assert (entry.driver, entry.sm_clock_mhz, entry.memory_clock_mhz) == (None, None, None)
    assert entry.cores is None or len(entry.cores) == 1
    assert 0 < entry.q25_ms <= entry.median_ms <= entry.q75_ms
    assert entry.speedup == entry.base_median_ms / entry.median_ms


def ticking(ms: Sequence[Sequence[float]], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let each timing take the next of `ms`, a time per network; return the numbers of passes."""
    left, repeats = iter(ms), []

    def timer(models: Sequence[nn.Module], images: Tensor, count: int) -> list[list[float]]:
        assert not any(model.training for model in models)
        assert torch.is_inference_mode_enabled()
        repeats.append(count)
        now = next(left)
        assert len(models) == len(now)
        return [[one] * count for one in now]

    monkeypatch.setattr(latency, "time_with_clock", timer)
    return repeats


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        ((4.0, 2.0, 4.1), ""),
        ((4.0, 2.2, 4.0), "two repetitions of the network differ by 10.0 %"),
        ((4.0, 2.0, 4.2), "the base timed against itself differs by 5.0 %"),
    ],
)
def test_base_network_and_a_copy_of_the_base_are_timed_in_two_repetitions(
    small_net: nn.Module,
    monkeypatch: pytest.MonkeyPatch,
    second: tuple[float, ...],
    reason: str,
) -> None:
    pruned = copy.deepcopy(small_net)
    passes = ticking([(4.0, 2.0, 4.0), (4.0, 2.0, 4.0), second], monkeypatch)
    entry = compare_latency(
        small_net, pruned, (1, 4, 4), batch_size=2, device="cpu", repeats=5, warmup=0
    )
    assert passes == [2, 5, 5]
    assert entry.repetitions is not None
    one, two = entry.repetitions
    assert (one.base.median_ms, one.network.median_ms, one.base_again.median_ms) == (4.0, 2.0, 4.0)
    assert (two.base.median_ms, two.network.median_ms, two.base_again.median_ms) == second
    assert entry.unstable == reason


def test_the_base_itself_is_compared_with_its_copy(
    small_net: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticking([(4.0, 4.0), (4.0, 4.0), (4.0, 4.4)], monkeypatch)
    entry = compare_latency(
        small_net, small_net, (1, 4, 4), batch_size=2, device="cpu", repeats=5, warmup=0
    )
    assert (entry.median_ms, entry.speedup) == (4.0, 1.0)
    assert entry.unstable == "the base timed against itself differs by 10.0 %"


def test_slow_networks_have_fewer_passes(
    small_net: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 1 s + 1 s + 0.5 s: eight turns fit into 20 s
    passes = ticking([(1000.0, 500.0, 1000.0)] * 5, monkeypatch)
    entry = compare_latency(
        small_net, copy.deepcopy(small_net), (1, 4, 4), batch_size=2, device="cpu", repeats=15,
        warmup=30,
    )  # fmt: skip
    assert passes == [2, 8, 8, 8]  # first, warm-up, two repetitions
    assert (entry.warmup, entry.repeats) == (8, 8)


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
        ([10.0, 10.2], 20),  # two alike: 10 + 10 passes
        ([10.0, 9.0, 8.8], 30),
        ([10.0, 9.6, 9.2], 25),  # never within 3 %: at most 25
    ],
)
def test_warm_up_ends_when_times_are_stable(rounds: list[float], done: int) -> None:
    left = iter(rounds)

    def timer(models: object, images: Tensor, repeats: int) -> list[list[float]]:
        return [[next(left)] * repeats]

    assert warm_up([nn.Identity()], torch.zeros(1), 25 if done == 25 else 60, timer) == done


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
    assert warm_up([model], torch.zeros(1), 60, time_with_events) == 20  # two rounds alike
    assert gpu_calls.count("a") == 20
    assert gpu_calls.count("synchronize") == 2  # one a round
    assert gpu_calls[-11:] == ["synchronize", *["read"] * 10]


def test_networks_are_warmed_up_before_they_are_timed(
    small_net: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = ticking([(1.0, 1.0)] * 5, monkeypatch)
    entry = compare_latency(
        small_net, small_net, (1, 4, 4), batch_size=2, device="cpu", repeats=5, warmup=60
    )
    assert passes == [2, 10, 10, 5, 5]
    assert (entry.warmup, entry.repeats) == (20, 5)


class StubRecorder:
    """Records without a GPU: a replay notes itself, and does not call the function."""

    replays: list[str]

    def __init__(self, device: torch.device) -> None:
        assert device == torch.device("cpu")

    def warm_up(self, function: Callable[[], None]) -> None:
        function()

    def record(self, function: Callable[[], None]) -> Callable[[], None]:
        function()
        return lambda: self.replays.append("replay")


def test_a_captured_pass_is_warmed_up_once_and_then_replayed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(latency, "CudaGraphs", StubRecorder)
    monkeypatch.setattr(StubRecorder, "replays", calls, raising=False)
    images = torch.zeros(1)
    replay = captured(Noting(calls, "a"), images)
    assert calls == ["a"] * 4  # three to warm up, one is captured
    replay(images)
    assert calls[4:] == ["replay"]


def test_a_pass_that_cannot_be_captured_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def record(self: StubRecorder, function: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("operation not permitted\nCompile with ...")

    monkeypatch.setattr(StubRecorder, "record", record)
    monkeypatch.setattr(latency, "CudaGraphs", StubRecorder)
    with pytest.raises(ModelError, match=r"graph \(operation not permitted\); with capture: false"):
        captured(nn.Identity(), torch.zeros(1))


def test_a_cpu_has_no_graphs(small_net: nn.Module) -> None:
    with pytest.raises(ValueError, match="a CUDA graph needs a GPU, not the device 'cpu'"):
        compare_latency(
            small_net, small_net, (1, 4, 4), batch_size=1, device="cpu", repeats=2, warmup=0,
            mode="graph",
        )  # fmt: skip


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["eager", "graph"])
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_a_gpu_is_timed_with_events(precision: str, mode: str) -> None:
    wide, narrow = nn.Conv2d(64, 2048, 3), nn.Conv2d(64, 64, 3)
    entry = compare_latency(
        wide, narrow, (64, 64, 64), batch_size=32, device="cuda", repeats=20, warmup=20,
        precision=precision, mode=mode,
    )  # fmt: skip
    assert (entry.device_kind, entry.mode, entry.cores) == ("cuda", mode, None)
    assert entry.device == torch.cuda.get_device_name()
    assert entry.driver is not None
    assert entry.speedup > 2


@pytest.mark.gpu
def test_a_network_is_timed_in_both_modes() -> None:
    net = nn.Sequential(*(nn.Conv2d(8, 8, 1) for _ in range(100)))
    entries = {
        mode: compare_latency(
            net, net, (8, 4, 4), batch_size=1, device="cuda", repeats=20, warmup=20, mode=mode
        )
        for mode in ("eager", "graph")
    }
    assert {mode: entry.mode for mode, entry in entries.items()} == {m: m for m in entries}


@pytest.mark.gpu
def test_a_replayed_pass_computes_what_an_eager_one_does() -> None:
    net, images = nn.Conv2d(3, 4, 3).cuda().eval(), torch.randn(2, 3, 8, 8, device="cuda")
    outputs: list[Tensor] = []

    def run(images: Tensor) -> None:
        outputs.append(net(images))

    with torch.inference_mode():
        replay = captured(run, images)
        outputs[-1].zero_()
        replay(images)
        torch.testing.assert_close(outputs[-1], net(images))


@pytest.mark.gpu
def test_the_flush_is_larger_than_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    empty = torch.empty

    def noting(size: int, **options: object) -> Tensor:
        sizes.append(size)
        return empty(size, **options)

    monkeypatch.setattr(torch, "empty", noting)
    images = torch.zeros(1, device="cuda")
    (times,) = time_with_events([nn.Identity()], images, 3)
    assert sizes == [2 * torch.cuda.get_device_properties(0).L2_cache_size]
    assert len(times) == 3
