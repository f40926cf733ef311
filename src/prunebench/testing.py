"""Test a pruning method on a toy network and toy data, by the training loop of real runs.

`train` runs all phases of a method and can look at the run before and after each step. `start`
returns a run at its beginning, over any small network and images, to call a criterion or single
hooks by hand; `begin`, `backward` and `prune` do the loop's work between them. `check_method`
holds a method to what every method must satisfy. Everything runs on the CPU, without files, in a
fraction of a second, and repeats bit for bit.

>>> from prunebench.methods.registry import method_class
>>> L1 = method_class("l1")
>>> run = train(L1(L1.Options()), HALF)
>>> run.kept["block.conv1"].tolist(), [row.phase for row in run.records.history]
([0, 1, 3], ['select', 'fine_tune'])
"""

from __future__ import annotations

import copy
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from prunebench.channels.examples import arguments
from prunebench.channels.groups import Grouping
from prunebench.channels.untouched import untouched
from prunebench.core.errors import RunStoppedError
from prunebench.data.dataset import Dataset, Split
from prunebench.data.info import DatasetInfo
from prunebench.data.random_state import seeded
from prunebench.experiments.phases import Budget, Phase
from prunebench.experiments.recipe import Recipe
from prunebench.methods.base import Method, check_hooks
from prunebench.training.batches import portion
from prunebench.training.checkpoint import CheckpointFile, StopRequest
from prunebench.training.loop import Loop
from prunebench.training.progress import SilentProgress
from prunebench.training.run import RunState

HALF = Budget(kind="units_per_group", ratio=0.5)
RECIPE = Recipe(epochs=1, batch_size=4, lr=0.01, weight_decay=0.0)
Look = Callable[[RunState], object]
STEP_HOOKS = ("loss_term", "before_optimizer_step", "after_optimizer_step")


# --- networks and data
def named_layers(**layers: nn.Module) -> nn.Sequential:
    """Return the layers one after the other, under their names.

    >>> list(named_layers(stem=nn.Conv2d(1, 2, 1), head=nn.Conv2d(2, 2, 1)).state_dict())
    ['stem.weight', 'stem.bias', 'head.weight', 'head.bias']
    """
    return nn.Sequential(OrderedDict(layers))


class ToyBlock(nn.Module):
    """A residual block: x + norm2(conv2(relu(norm1(conv1(x)))))."""

    def __init__(self, channels: int, inside: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, inside, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(inside)
        self.conv2 = nn.Conv2d(inside, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of the input and the two layers' output."""
        y: Tensor = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
        return x + y


def toy_network(*, channels: int = 1, classes: int = 2, seed: int = 0) -> nn.Sequential:
    """Return a small residual network: groups with the roles stem, stream and inside.

    The layers are stem, block.conv1, block.conv2, conv and fc, 4, 6, 4, 8 and `classes` units
    wide, with batch norm after each convolution.

    >>> [len(p) for name, p in toy_network().named_parameters() if p.ndim > 1]
    [4, 6, 4, 8, 2]
    """
    with seeded(seed):
        return named_layers(
            stem=nn.Conv2d(channels, 4, 3, padding=1, bias=False),
            norm=nn.BatchNorm2d(4),
            relu=nn.ReLU(),
            block=ToyBlock(4, 6),
            conv=nn.Conv2d(4, 8, 3, padding=1, bias=False),
            norm2=nn.BatchNorm2d(8),
            relu2=nn.ReLU(),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(8, classes),
        )


def toy_data(
    images: Tensor | None = None,
    labels: Tensor | None = None,
    *,
    shape: tuple[int, int, int] = (1, 4, 4),
    classes: int = 2,
    seed: int = 0,
) -> Dataset:
    """Return a data set of a few images, or of given ones.

    Parameters
    ----------
    images
        Float (N, C, h, w), passed to the network as they are: the training, validation and test
        split at once. Default: normal noise of `shape`, 12 to train, 4 to validate, 4 to test.
    labels
        int64 (N,) of given images. Default: 0, 1, ..., `classes` - 1, 0, ...

    >>> data = toy_data(shape=(3, 2, 2), classes=5)
    >>> len(data.train), data.train.shape, data.test.labels.tolist()
    (12, (3, 2, 2), [0, 1, 2, 3])
    """
    generator = torch.Generator().manual_seed(seed)

    def split(n: int) -> Split:
        found = torch.randn(n, *shape, generator=generator) if images is None else images
        own = torch.arange(len(found)) % classes if labels is None else labels
        # The loop divides by 255, subtracts the mean 0 and divides by the deviation 1.
        return Split(found.float() * 255, own)

    train, val, test = (split(n) for n in (12, 4, 4))
    info = DatasetInfo(
        name="toy",
        title="Toy data",
        num_classes=classes,
        shape=train.shape,
        mean=(0.0,) * train.shape[0],
        std=(1.0,) * train.shape[0],
        validation=0.0,
        source="generated",
        split="generated",
        read=lambda folder: NotImplemented,
    )
    return Dataset(info=info, train=train, val=val, test=test, sha256="")


# --- runs
def start(
    network: nn.Module | None = None,
    data: Dataset | None = None,
    *,
    image: tuple[int, int, int] = (1, 4, 4),
    seed: int = 0,
    grouped: Grouping = "auto",
    source_kept: Mapping[str, Tensor] | None = None,
) -> RunState:
    """Return a run at its beginning, over a copy of `network`.

    Parameters
    ----------
    network
        Any network, in single or double precision. Default: `toy_network()`. `train`, `prune` and
        criteria that compute a loss need an output (N, classes); ValueError if it has another
        shape.
    data
        Default: `toy_data` of the shape `image`, with as many classes as the network has outputs.
    grouped
        The units of grouped convolutions, as in a method's options.
    source_kept
        The kept units of the run that the option `widths_from` names.

    >>> run = start(named_layers(stem=nn.Conv2d(1, 3, 1), head=nn.Conv2d(3, 2, 1)))
    >>> run.graph.groups["stem"].n_units, run.base_macs
    (3, 144)
    """
    model = copy.deepcopy(toy_network() if network is None else network)
    if next(model.parameters()).dtype != torch.float32:  # the type of the loop's images
        model.register_forward_pre_hook(_to_own_precision)
    if data is None:
        with untouched(model), torch.no_grad():
            classes = model(torch.zeros(1, *image)).flatten(1).shape[1]
        data = toy_data(shape=image, classes=classes)
    run = _ToyRun(
        seed=seed,
        device=torch.device("cpu"),
        dataset=data,
        build=partial(copy.deepcopy, model),
        phases=(Phase(name="select"),),
        base_recipe=RECIPE,
        source_kept=None if source_kept is None else dict(source_kept),
        grouped=grouped,
    )
    run.start_from(copy.deepcopy(model))
    return run


def train(
    method: Method[Any],
    phases: Sequence[Phase] | Budget,
    run: RunState | None = None,
    *,
    recipes: Mapping[str, Recipe] | None = None,
    before_step: Look | None = None,
    after_step: Look | None = None,
    folder: Path | None = None,
    stop_after: int | None = None,
) -> RunState:
    """Run all phases of a method by the training loop; return the run at its end.

    `run.records` holds the rows of history.csv (`history`) and diagnostics.csv (`diagnostics`),
    one row per removal (`plans`) and the phases that ended by their length before the method was
    finished (`capped`).

    Parameters
    ----------
    phases
        The method's phases, or the budget from which it derives them; then a hook that no phase
        enables is a MethodError, as for real runs.
    run
        A run at its beginning, which is changed. Default: `start()`.
    recipes
        Recipes by role, for a budget. Default: `RECIPE`, one epoch in batches of four, which are
        three steps on `toy_data`.
    before_step
        Called with the run just before each optimizer step: gradients are complete, after
        `before_optimizer_step` of the method.
    after_step
        Called with the run after each step, masks and the epoch's end included; `run.clock` is the
        number of steps in the phase.
    folder
        Where a checkpoint is read from, and written to if the run stops.
    stop_after
        Number of steps, over all phases, after which the run stops as by SIGTERM: it writes a
        checkpoint and raises RunStoppedError.

    >>> from prunebench.methods.registry import method_class
    >>> L1 = method_class("l1")
    >>> steps: list[tuple[str, int]] = []
    >>> def note(run: RunState) -> None:
    ...     steps.append((run.phase.name, run.clock))
    >>> run = train(L1(L1.Options()), HALF, before_step=note)
    >>> steps
    [('fine_tune', 0), ('fine_tune', 1), ('fine_tune', 2)]
    """
    run = run or start()
    _check_output(run)
    chosen = _phases(method, phases, recipes)
    with ExitStack() as patches:
        if before_step is not None:
            own, hooks = method.before_optimizer_step, [phase.hooks for phase in chosen]

            def look(run: RunState) -> None:
                if "before_optimizer_step" in hooks[run.index]:
                    own(run)
                before_step(run)

            chosen = tuple(
                replace(phase, hooks=phase.hooks | {"before_optimizer_step"}) for phase in chosen
            )
            patches.enter_context(mock.patch.object(method, "before_optimizer_step", look))
        _enter(run, chosen)
        _loop(run, method, after_step, folder, stop_after).train()
    return run


def begin(
    method: Method[Any],
    phases: Sequence[Phase] | Budget,
    run: RunState | None = None,
    *,
    recipes: Mapping[str, Recipe] | None = None,
) -> RunState:
    """Begin the first phase and let the method attach itself; return the run before its first step.

    The arguments are those of `train`. Tests then call the other hooks by hand.
    """
    run = run or start()
    _enter(run, _phases(method, phases, recipes))
    _loop(run, method).begin(run.phase)
    if "attach" in run.phase.hooks:
        method.attach(run)
    return run


def backward(run: RunState) -> None:
    """Set the gradients of the mean loss over a batch, as a step of the loop does before its hooks.

    The batch is the first one of the training images, of the size in the phase's recipe; all
    images in a phase without training.
    """
    split = run.dataset.train
    assert isinstance(split, Split)
    n = run.phase.recipe.batch_size if run.phase.recipe else len(split)
    images, labels = split.images[:n] / 255, split.labels[:n]
    run.model.zero_grad()
    run.portion = portion(len(labels))
    run.loss(images, labels).backward()  # type: ignore[no-untyped-call]


def prune(method: Method[Any], budget: Budget, run: RunState | None = None) -> RunState:
    """Select and remove units as at the end of a phase, checks included; return the run.

    >>> from prunebench.methods.registry import method_class
    >>> L1 = method_class("l1")
    >>> run = prune(L1(L1.Options()), HALF)
    >>> run.params["block.conv1.weight"].shape[0], run.sizes["block.conv1"]
    (3, 6)
    """
    run = run or start()
    _check_output(run)
    _loop(run, method).prune(run.phase, budget)
    return run


def _phases(
    method: Method[Any],
    phases: Sequence[Phase] | Budget,
    recipes: Mapping[str, Recipe] | None,
) -> tuple[Phase, ...]:
    if isinstance(phases, Budget):
        given = {role: RECIPE for role in method.recipe_roles} | dict(recipes or {})
        own = method.phases(given, phases)
        check_hooks(method, own)
        return tuple(own)
    return tuple(phases)


def _enter(run: RunState, phases: tuple[Phase, ...]) -> None:
    run.phases, run.begun = phases, False
    run.go_to(0)


class _ToyRun(RunState):
    """A run whose loss says what is wrong with a network that is no classifier."""

    def loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        try:
            return super().loss(inputs, targets)
        except RuntimeError:
            if len(shape := _output_shape(self)) != 2:
                raise _no_classes(shape) from None
            raise


def _check_output(run: RunState) -> None:
    """Raise ValueError unless the network returns one number per class."""
    if (shape := _output_shape(run))[2:].numel() != 1:
        raise _no_classes(shape)


def _output_shape(run: RunState) -> torch.Size:
    with untouched(run.model), torch.no_grad():
        shape: torch.Size = run.model(*arguments(run.example)).shape
    return shape


def _no_classes(shape: torch.Size) -> ValueError:
    return ValueError(
        f"the network's output for one image has shape {tuple(shape)}, expected (1, classes); "
        "end it with nn.AdaptiveAvgPool2d(1) and nn.Flatten()"
    )


def _to_own_precision(model: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    dtype = next(model.parameters()).dtype
    return tuple(x.to(dtype) for x in inputs)


class _Looking(SilentProgress):
    """Progress that looks at the run after each step, and stops it after a number of steps."""

    def __init__(self, run: RunState, look: Look | None, stop_after: int | None) -> None:
        super().__init__()
        self.run, self.look, self.stop_after = run, look, stop_after
        self.stop, self.seen = StopRequest(), 0

    def step(self, clock: int) -> None:
        self.seen += 1
        if self.look is not None:
            self.look(self.run)
        if self.seen == self.stop_after:
            self.stop.signal = 15


def _loop(
    run: RunState,
    method: Method[Any],
    look: Look | None = None,
    folder: Path | None = None,
    stop_after: int | None = None,
) -> Loop:
    progress = _Looking(run, look, stop_after)
    file = None if folder is None else CheckpointFile(folder, "toy", 3600.0, progress.say)
    return Loop(run, method, progress=progress, stop=progress.stop, checkpoint=file)


# --- steps
HOST_READS = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "masked_select")


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Record the operations of a block and their numbers; raise where the CPU waits for a GPU."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[tuple[str, str]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name in HOST_READS:
            raise AssertionError(f"{name} reads a tensor on the CPU; hooks of a step must not")
        numbers = [arg for arg in args if isinstance(arg, int | float)]
        named = {k: repr(v) for k, v in (kwargs or {}).items() if not isinstance(v, Tensor)}
        self.found.append((name, repr((numbers, named))))
        return func(*args, **(kwargs or {}))


@contextmanager
def recorded_operations() -> Iterator[list[tuple[str, str]]]:
    """Record the tensor operations of a block, with their plain numbers.

    An operation whose result the CPU needs (`float(tensor)`, `nonzero`, ...) raises AssertionError:
    the hooks of a step may have none, and must do the same operations in every step, so that steps
    on a GPU can be captured and replayed.

    >>> with recorded_operations() as operations:
    ...     _ = torch.ones(2).mul_(3)
    >>> [name for name, numbers in operations]
    ['ones', 'mul_']
    """
    with _Operations() as operations:
        yield operations.found


# --- checks
def check_method(
    kind: type[Method[Any]],
    options: Mapping[str, Any] | None = None,
    budget: Budget = HALF,
    *,
    start: Callable[[], RunState] = start,
    recipes: Mapping[str, Recipe] | None = None,
) -> None:
    """Check what every method must satisfy; raise an error that says what is wrong.

    - The budget prunes something, a ratio of 0 nothing, and no ratio all units of a group.
    - The network with masked units computes what the one without them does.
    - The same seed gives the same result bit for bit.
    - A run that is stopped and resumed ends as one that was not: what a method changes over time
      is in `state`, and `attach` derives the rest.
    - The hooks of a step read no tensor on the CPU, and some phase enables each hook.

    Parameters
    ----------
    kind
        The class of the method.
    options
        Options that differ from their defaults; choose small numbers of steps.
    budget
        What is removed.
    start
        Makes the run, the same one at each call.
    recipes
        Recipes by role, as in `train`.

    >>> from prunebench.methods.registry import method_class
    >>> L1 = method_class("l1")
    >>> check_method(L1)
    """

    def run_with(ratio: float | None, **more: Any) -> RunState:
        method = kind(kind.Options.model_validate(dict(options or {})))
        with _guarded(method):
            return train(method, replace(budget, ratio=ratio), start(), recipes=recipes, **more)

    steps: list[int] = []
    whole = run_with(budget.ratio, after_step=lambda run: steps.append(run.clock))
    outcome = _outcome(whole)
    who = kind.__name__
    assert _has_pruned(whole), f"{who}: {budget} has pruned nothing"
    again = _outcome(run_with(budget.ratio))
    assert _same(again, outcome), f"{who}: the same seed has given another result"
    for after in sorted({1, len(steps) // 2, len(steps) - 1} & set(range(1, len(steps)))):
        with tempfile.TemporaryDirectory() as folder:
            with suppress(RunStoppedError):
                run_with(budget.ratio, folder=Path(folder), stop_after=after)
            resumed = _outcome(run_with(budget.ratio, folder=Path(folder)))
        assert _same(resumed, outcome), (
            f"{who}: a run that is stopped after step {after} and resumed has another result; "
            "whatever the method changes over time must be in its `state`"
        )
    if budget.ratio is None or kind.ratios is not None or whole.source_kept is not None:
        return  # something else than the ratio decides
    assert not _has_pruned(run_with(0.0)), f"{who}: a ratio of 0 has pruned something"
    if budget.kind == "units_per_group":
        most = run_with(0.999)
        assert all(len(units) for units in most.kept.values()), f"{who}: a group has no unit left"


@contextmanager
def _guarded(method: Method[Any]) -> Iterator[None]:
    """Let each hook of a step raise where it reads a tensor on the CPU."""

    def guarded(hook: Callable[[RunState], Any], run: RunState) -> Any:
        with recorded_operations():
            return hook(run)

    with ExitStack() as patches:
        for name in STEP_HOOKS:
            hook = partial(guarded, getattr(method, name))
            patches.enter_context(mock.patch.object(method, name, hook))
        yield


def _has_pruned(run: RunState) -> bool:
    return run.costs.macs() < run.base_macs or bool(run.masks)


def _outcome(run: RunState) -> dict[str, Tensor]:
    """Return weights and buffers, kept units and masks."""
    kept = {f"kept {name}": units for name, units in run.kept.items()}
    return {**run.model.state_dict(), **kept, **{f"mask {n}": m for n, m in run.masks.items()}}


def _same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
