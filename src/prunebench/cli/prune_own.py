"""`prunebench prune --model module:function`: prune a network of one's own.

It shares its name with the stage that prunes a base network of an experiment, and no option but
`--method` and `--seed`: a call with `--model` is this command, any other the stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunebench.cli.options import Command, among
from prunebench.core.errors import ConfigError, in_one_line, shown
from prunebench.core.own_code import own_function
from prunebench.experiments.settings import LARGEST_SEED

if TYPE_CHECKING:
    from torch import nn

    from prunebench.own_network.own_run import Evaluate

OPTION = "--model"
HINT = (
    "`prunebench prune --model module:function` prunes a network of your own, without an "
    "experiment: see `prunebench prune --model --help`."
)
RATIOS = {"macs": "macs", "params": "params", "units": "units_per_group"}  # option: kind of ratio


own_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


class StageOrOwn(Command):
    """The command `prune`: the stage, or with `--model` the command of this module."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        """Parse the arguments for the command that they belong to.

        ConfigError for an option of the other one.
        """
        own = typer.main.get_command(own_app)
        names = [arg.partition("=")[0] for arg in args]
        is_own = OPTION in names
        if "--help" in names:
            args, names = ["--help"], []
        stages, others = options_of(self), options_of(own)
        for name in names:
            if is_own and name in stages - others:
                raise ConfigError(f"{name}: not allowed with {OPTION}")
            if not is_own and name in others - stages:
                raise ConfigError(f"{name}: needs {OPTION}")
        if is_own:
            return own.make_context(info_name, args, parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


def options_of(command: Any) -> set[str]:
    """Return the names of a command's options, such as --seed."""
    return {name for parameter in command.params for name in parameter.opts}


@own_app.command()
def prune_own(
    model: Annotated[
        str,
        typer.Option(
            help="Network: module:function, called without arguments; a module of the current "
            "folder or an installed one."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write the network and the report to.")],
    data: Annotated[
        str | None,
        typer.Option(
            help="Data: module:function that returns a training loader, or a tuple of a training "
            "and an evaluation loader. Loaders yield (inputs, targets)."
        ),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(help="Input size without --data: channels, height, width, as in 3x224x224."),
    ] = None,
    criterion: Annotated[
        str | None,
        typer.Option(help="Criterion (see `prunebench list methods`; default: l1)."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="Method that trains, such as greg_1; needs --data and --epochs."),
    ] = None,
    macs: Annotated[
        float | None, typer.Option(help="Fraction of the multiply-accumulates to remove.")
    ] = None,
    params: Annotated[
        float | None, typer.Option(help="Fraction of the parameters to remove.")
    ] = None,
    units: Annotated[
        float | None, typer.Option(help="Fraction of the units of each group to remove.")
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            help="Largest accepted drop of the top-1 accuracy in points, for the largest ratio "
            "that keeps it; needs an evaluation loader."
        ),
    ] = None,
    allocation: Annotated[
        str,
        typer.Option(
            help="Distribution of the ratio over groups.",
            metavar="uniform|global",
            callback=among("uniform", "global"),
        ),
    ] = "uniform",
    round_to: Annotated[
        int, typer.Option(min=1, help="Multiple of channels that each layer keeps, such as 8.")
    ] = 1,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            help="Pattern of module paths whose channels all stay, such as 'head.*'; can be "
            "repeated."
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs of pruning and fine-tuning (default: no training)."),
    ] = None,
    lr: Annotated[float, typer.Option(help="Learning rate, before its cosine schedule.")] = 0.01,
    recalibrate: Annotated[
        bool,
        typer.Option(
            "--recalibrate", help="Estimate batch-norm statistics again on training images."
        ),
    ] = False,
    export: Annotated[
        list[Path] | None,
        typer.Option(
            help="File to export the network to: .onnx, .pt2 or .safetensors; can be repeated."
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="PyTorch device (default: a GPU if there is one).")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of random numbers.")] = 0,
) -> None:
    """Prune a network of your own, with your own data.

    Writes the smaller network, what was removed (structure.json) and the printed report to a folder
    from which `prunebench.load(FOLDER, model=...)` loads it. With --epochs, a call that is stopped
    goes on when it is repeated. `prunebench prune --help` is about networks of experiments.
    """
    from prunebench.own_network.prune import prune

    ratio, kind = ratio_of({"macs": macs, "params": params, "units": units}, max_drop)
    network, train, test = network_of(model, device), None, None
    if data is not None:
        train, test = loaders_of(data)
    result = prune(
        network,
        example_of(network, train, image),
        criterion=criterion,
        method=method,
        ratio=ratio,
        ratio_kind=kind,  # type: ignore[arg-type]
        allocation=allocation,  # type: ignore[arg-type]
        round_to=round_to,
        keep=keep or (),
        data=train,
        recalibrate=recalibration(train, is_asked=recalibrate),
        evaluate=None if test is None else top1(test),
        max_drop=max_drop,
        epochs=epochs,
        lr=lr,
        checkpoint=out if epochs is not None else None,
        seed=seed,
    )
    typer.echo(str(result))
    result.save(out)
    typer.echo(f"\n{out}")
    for path in export or ():
        typer.echo(f"{path} · outputs equal to {result.export(path):.0e}")


def ratio_of(given: dict[str, float | None], max_drop: float | None) -> tuple[float | None, str]:
    """Return the ratio and its kind; ConfigError unless there is exactly one, or it is searched."""
    found = {name: ratio for name, ratio in given.items() if ratio is not None}
    if len(found) > 1:
        raise ConfigError(f"--{list(found)[1]}: not allowed with --{next(iter(found))}")
    if not found and max_drop is None:
        raise ConfigError("--macs: needed, or --params, --units or --max-drop")
    name = next(iter(found), "macs")
    return found.get(name), RATIOS[name]


def network_of(path: str, device: str | None) -> nn.Module:
    """Return the user's network on a device; ConfigError or ModelError in one line."""
    import torch

    from prunebench.cli.describe import build

    if ":" not in path:
        raise ConfigError(f"{OPTION}: {path!r} is not of the form module:function")
    model = build(path, None, 3)
    try:
        return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise ConfigError(f"--device: {device!r} cannot be used: {in_one_line(error)}") from None


def loaders_of(path: str) -> tuple[Any, Any]:
    """Return the training loader and the evaluation loader, None without one."""
    function = own_function(path, "data")
    try:
        found = function()
    except Exception as error:  # it runs code of its own
        raise ConfigError(f"data {path}: {in_one_line(error)}") from error
    if not isinstance(found, tuple):
        return found, None
    if len(found) != 2:
        raise ConfigError(
            f"data {path}: returns a tuple of {len(found)}, expected a loader or a pair of a "
            "training and an evaluation loader"
        )
    return found


def example_of(model: nn.Module, train: Any, image: str | None) -> Any:
    """Return an input of the network: the first image of the loader, or noise of a size."""
    import torch

    from prunebench.cli.describe import image_shape
    from prunebench.own_network.finetune import first_inputs

    if image is not None:
        return torch.rand(1, *image_shape(image))
    if train is None:
        raise ConfigError("--image: needed without --data, as in 3x224x224")
    return first_inputs(model, train)[0]


def recalibration(train: Any, *, is_asked: bool) -> Any:
    """Return the loader of the images that estimate the statistics of batch norm; None: none."""
    if is_asked and train is None:
        raise ConfigError("--recalibrate: needs --data")
    return train if is_asked else None


def top1(loader: Sequence[Any]) -> Evaluate:
    """Return a function from a network to its top-1 accuracy on a loader in percent.

    It raises DataError if a batch has not one label for each image.
    """
    from prunebench.measure.accuracy import count_correct
    from prunebench.own_network.loaded_batches import OwnBatches, check_labels

    def evaluate(model: nn.Module) -> float:
        device = next(model.parameters()).device
        batches = OwnBatches(loader, 1, device)
        check_labels(*batches.first())
        counts = count_correct(model, batches)
        if not counts.total:
            raise ConfigError(f"data: the evaluation loader {shown(loader)} has no image")
        return counts.percent

    return evaluate
