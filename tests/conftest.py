from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from torch import nn

from prunebench import testing
from prunebench.channels.removal import remove
from prunebench.channels.trace.tracer import trace
from prunebench.core import plug_ins
from prunebench.models.registry import build
from prunebench.network import save_network, structure_of
from prunebench.training.run import RunState


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """One thread, before any fixture: the networks are small, and sums follow the threads.

    What is computed for a whole module must have the bits of what its tests compute, whatever
    ran before in the same process (a stage sets the threads of its specification). Tests marked
    `gpu` are skipped without a GPU.
    """
    torch.set_num_threads(1)
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("no CUDA device")


Once = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Once:
    """A function name, make -> folder of that name, which `make` has filled; to be left as it is.

    The first of several test processes makes it, and the others wait.
    """
    shared = tmp_path_factory.getbasetemp()
    if worker_id != "master":
        shared = shared.parent

    def once(name: str, make: Callable[[Path], object]) -> Path:
        folder, done = shared / name, shared / f"{name}.done"
        with FileLock(shared / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return once


@pytest.fixture
def resnet20() -> nn.Module:
    torch.manual_seed(0)
    return build("resnet20", num_classes=10, in_channels=1)


@pytest.fixture
def resnet_run(resnet20: nn.Module) -> RunState:
    """A run of ResNet-20 on 8x8 images, three steps an epoch."""
    return testing.start(resnet20, image=(1, 8, 8))


@pytest.fixture
def resnet_run_float64(resnet20: nn.Module) -> RunState:
    """The same in double precision."""
    return testing.start(resnet20.double(), image=(1, 8, 8))


def save_resnet20(folder: Path, removed: dict[str, torch.Tensor]) -> nn.Module:
    """Write a ResNet-20 for 8x8 images of one channel, without the `removed` units."""
    model = build("resnet20", num_classes=10, in_channels=1)
    graph = trace(model, torch.zeros(1, 1, 8, 8))
    smaller = remove(model, graph, removed)
    sizes = {name: group.n_units for name, group in graph.groups.items()}
    kept = {
        name: torch.tensor([u for u in range(sizes[name]) if u not in units.tolist()])
        for name, units in removed.items()
    }
    structure = structure_of(
        smaller,
        architecture="resnet20",
        dataset="digits",
        num_classes=10,
        image=(1, 8, 8),
        sizes=sizes,
        kept=kept,
    )
    save_network(folder, smaller, structure, {})
    return smaller


@pytest.fixture
def base_folder(tmp_path: Path) -> Path:
    """A whole ResNet-20 on disk."""
    save_resnet20(tmp_path / "base", {})
    return tmp_path / "base"


@pytest.fixture
def pruned_net(tmp_path: Path) -> nn.Module:
    """ResNet-20 that keeps units 0, 1, 2, 3 and 15 of its first block's first convolution."""
    return save_resnet20(tmp_path / "pruned", {"stages.0.0.conv1": torch.arange(4, 15)})


@pytest.fixture
def pruned_folder(tmp_path: Path, pruned_net: nn.Module) -> Path:
    """Where `pruned_net` lies on disk."""
    return tmp_path / "pruned"


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str, str], None]]:
    """Registers an entry point, (group, name, value); no other package's are seen."""
    found: list[EntryPoint] = []

    def entry_points(*, group: str) -> list[EntryPoint]:
        return [entry for entry in found if entry.group == group]

    monkeypatch.setattr(plug_ins, "entry_points", entry_points)

    def register(group: str, name: str, value: str) -> None:
        found.append(EntryPoint(name=name, value=value, group=group))
        plug_ins.plug_ins.cache_clear()

    plug_ins.plug_ins.cache_clear()
    yield register
    plug_ins.plug_ins.cache_clear()
