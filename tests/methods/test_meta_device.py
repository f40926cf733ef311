"""Training steps and criteria on the `meta` device, in place of a GPU.

Tensors on `meta` hold no data, so reading one on the CPU raises an error. Operations on tensors of
two devices raise an error too, as on a GPU. Each method runs on the CPU to the first step of each
phase, and continues from a checkpoint on `meta`, in the loop of real runs. `decide`, `select`, the
end of an epoch and evaluation are left out, since they may read.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from prunebench import testing
from prunebench.channels.removal import remove
from prunebench.core.errors import RunStoppedError
from prunebench.criteria.gradients import DataCriterion
from prunebench.criteria.registry import CRITERIA, criterion_class
from prunebench.data.dataset import Dataset, Split
from prunebench.experiments.phases import Steps
from prunebench.experiments.recipe import Augment, Recipe
from prunebench.methods.base import Method
from prunebench.methods.registry import METHODS, method_class
from prunebench.training.checkpoint import StopRequest, pack, unpack
from prunebench.training.loop import Loop
from prunebench.training.optimizer import Moments, Optimizer
from prunebench.training.progress import SilentProgress
from prunebench.training.run import RunState
from prunebench.training.step import Sums
from tests.methods.test_every_method import AUTO, BUDGETS, OPTIONS, RECIPES, run_with_source

META = torch.device("meta")
AUGMENT = Augment(crop_padding=1, flip=True, cutout=2)
STEPS = 3


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Replace the two parts of PyTorch that refuse `meta`: fused optimizers and autocast.

    The optimizers' kernel checks what can be checked without data, the device of every tensor.
    """
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())

    def on_meta(*args: Any, **kwargs: Any) -> None:
        for each in [*args, *kwargs.values()]:
            for tensor in each if isinstance(each, list | tuple) else [each]:
                assert not isinstance(tensor, Tensor) or tensor.is_meta

    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    for name in ("_fused_sgd_", "_fused_adam_", "_fused_adamw_"):
        library.impl(f"{name}.tensor_lr", on_meta, "Meta")
    yield
    library._destroy()


class OneDevice(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Raise where an operation mixes devices; some kernels on `meta` do not look.

    Copies are allowed, and numbers: tensors on the CPU without dimensions.
    """

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func.overloadpacket.__name__
        used = [
            leaf.device
            for leaf in tree_leaves((args, kwargs or {}))
            if isinstance(leaf, Tensor) and (leaf.ndim or leaf.is_meta)
        ]
        assert len(set(used)) < 2 or name in ("copy_", "_to_copy"), f"{name} mixes devices"
        return func(*args, **(kwargs or {}))


class Stopping(SilentProgress):
    """Progress that asks the loop to stop after some steps."""

    def __init__(self) -> None:
        super().__init__()
        self.request, self.seen = StopRequest(), 0

    def step(self, clock: int) -> None:
        self.seen += 1
        if self.seen == STEPS:
            self.request.signal = 15


def on_meta(run: RunState) -> RunState:
    """Return a run at its beginning, over the network and data of `run`, on `meta`."""

    def moved(split: Any) -> Split:
        return Split(split.images.to(META).to(torch.uint8), split.labels.to(META))

    data = run.dataset
    train, val, test = map(moved, (data.train, data.val, data.test))
    dataset = Dataset(info=data.info, train=train, val=val, test=test, sha256="")
    other = RunState(
        seed=run.seed,
        device=META,
        dataset=dataset,
        build=run.build,
        phases=run.phases,
        base_recipe=run.base_recipe,
        source_kept=run.source_kept,
        grouped=run.grouped,
    )
    other.start_from(run.build())
    return other


def steps_on_meta(run: RunState, method: Method[Any], content: dict[str, Any]) -> int:
    """Train three steps from a checkpoint, however long the phase is; return their number."""
    other, progress = on_meta(run), Stopping()
    unpack(content, other, method)
    loop = Loop(other, method, progress=progress, stop=progress.request, checkpoint=None)
    loop.moments = Moments(**content["moments"])
    with (
        mock.patch.object(loop, "_end_epoch"),
        mock.patch.object(method, "decide"),
        mock.patch.object(method, "finished", return_value=False),
        mock.patch.object(method, "phase_length", return_value=Steps(other.clock + 2 * STEPS)),
        suppress(RunStoppedError),
        OneDevice(),
    ):
        loop.train_phase(other.phase)
    assert all(tensor.is_meta for tensor in other.model.state_dict().values())
    return progress.seen


def phases_on_meta(
    method: Method[Any], budget: Any, start: RunState, recipes: dict[str, Recipe]
) -> dict[str, int]:
    """Run a method on the CPU, and steps of each of its phases on `meta`; return their numbers."""
    contents: dict[str, dict[str, Any]] = {}

    def keep(run: RunState) -> None:
        name = f"{run.index} {run.phase.name}"
        if name not in contents:
            optimizer = Optimizer(run.params, run.recipe)
            content = pack(run, method, optimizer, Sums.zero(run.device))
            contents[name] = copy.deepcopy(content)  # the run goes on

    run = testing.train(method, budget, start, recipes=recipes, after_step=keep)
    return {name: steps_on_meta(run, method, content) for name, content in contents.items()}


def recipes_like(changes: dict[str, Any]) -> dict[str, Recipe]:
    roles = {"fine_tune": testing.RECIPE, "train": testing.RECIPE} | RECIPES
    return {role: recipe.model_copy(update=changes) for role, recipe in roles.items()}


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")
@pytest.mark.parametrize("name", sorted({*METHODS, *CRITERIA}))
def test_steps_read_no_tensor_and_mix_no_devices(name: str) -> None:
    kind = method_class(name)
    few = {"samples": 6, "batch": 4} if issubclass(kind.Options, DataCriterion) else {}
    options = few | OPTIONS.get(name, {})
    budget = AUTO if name == "unpruned" else BUDGETS.get(name, testing.HALF)
    start = run_with_source() if name.startswith("scratch") else testing.start()
    method = kind(kind.Options.model_validate(options))
    done = phases_on_meta(method, budget, start, recipes_like({"augment": AUGMENT}))
    assert set(done.values()) == (set() if name == "unpruned" else {STEPS})


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")
@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "adamw", "clip_norm": 1.0},
        {"label_smoothing": 0.1, "accumulation": 2},
        {"augment": AUGMENT.model_copy(update={"lighting": 0.1})},
    ],
)
def test_steps_of_any_recipe_read_no_tensor_and_mix_no_devices(changes: dict[str, Any]) -> None:
    kind = method_class("l1")
    start = testing.start(image=(3, 4, 4), network=testing.toy_network(channels=3))
    recipes = recipes_like(changes)
    assert phases_on_meta(kind(kind.Options()), testing.HALF, start, recipes) == {
        "1 fine_tune": STEPS
    }


READS = "no data|item\\(\\) cannot be called on meta"


@pytest.mark.parametrize("name", sorted(CRITERIA))
def test_scores_lie_on_the_device_of_the_weights(name: str) -> None:
    kind = criterion_class(name)
    few = {"samples": 6, "batch": 4} if issubclass(kind, DataCriterion) else {}
    run = on_meta(testing.start())
    with pytest.raises(Exception, match=READS) if name in ("grasp", "rdt") else OneDevice():
        scores = kind(**few).scores(run, run.graph.groups)
        assert all(score.is_meta for score in scores.values())


def test_the_tracer_makes_indices_on_the_cpu_and_smaller_weights_on_the_device() -> None:
    run = on_meta(testing.start())
    members = [member for group in run.graph.groups.values() for member in group.members]
    assert {member.index.device.type for member in members} == {"cpu"}
    with OneDevice():
        smaller = remove(run.model, run.graph, {"conv": torch.tensor([1, 2])})
    tensors = smaller.state_dict()
    assert all(tensor.is_meta for tensor in tensors.values())
    assert tensors["conv.weight"].shape[0] == 6
