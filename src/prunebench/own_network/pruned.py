"""The result of pruning a network of one's own: the network, and proof of what was done to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from prunebench.channels.removal import kept_units
from prunebench.core.files import replacing
from prunebench.experiments.results import HistoryRow
from prunebench.network import Structure, first_groups, save_network
from prunebench.own_network.history_rows import history_table
from prunebench.own_network.pruned_files import OwnStructure
from prunebench.own_network.pruned_text import report_lines

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Change:
    """A number of the given and of the pruned network."""

    before: float
    after: float

    @property
    def removed(self) -> float:
        """Return the removed fraction.

        >>> Change(200, 50).removed
        0.75
        """
        return 1 - self.after / self.before if self.before else 0.0


@dataclass(frozen=True, eq=False)
class PrunedGroup:
    """The coupled channels of one group.

    Attributes
    ----------
    name
        Path of the first layer that produces the units.
    role
        As in `ChannelGroup`: "stem", "stream" or "inside".
    units
        Number of units in the given network.
    kept
        The remaining units, ascending int64, numbered as in the given network.
    """

    name: str
    role: str
    units: int
    kept: Tensor

    @property
    def removed(self) -> Tensor:
        """Return the removed units."""
        return kept_units(self.units, self.kept)


@dataclass(frozen=True)
class Tried:
    """A ratio that was tried, and the accuracy of the network at this ratio."""

    ratio: float
    achieved: float
    accuracy: float


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Pruned:
    """A pruned network and what was done; printing it shows a report.

    Attributes
    ----------
    model
        The smaller network, in evaluation mode: an ordinary module of the given one's class.
    method
        The criterion or method.
    asked
        The ratio that was asked for, in words.
    requested, achieved
        The ratio that was asked for and the one reached; None for ratios by group.
    groups
        The groups that could be pruned, in network order.
    frozen
        Group name to the reason why it stays whole.
    macs
        Multiply-accumulates of one example, in convolutions and linear layers.
    params
        Number of parameters.
    deviation
        Largest difference of outputs between the network with masked and the one with removed
        units, in float64, relative to the largest output; of layers if the outputs are equal to the
        last bit; None if nothing was removed.
    accuracy
        By the user's evaluation, of the given and of the pruned network; None without one.
    tried
        The ratios that a search for the largest one has tried.
    rows
        What happened while training: epochs and removals; see `history`.
    masks
        Weights that are zero but still there, by name of the parameter: bool, True is kept. Only of
        methods that zero what no smaller layer can leave out.
    example
        The example of the call, on the network's device.
    structure
        What `structure.json` says.
    """

    model: nn.Module
    method: str
    asked: str
    requested: float | None
    achieved: float | None
    groups: tuple[PrunedGroup, ...]
    frozen: Mapping[str, str]
    macs: Change
    params: Change
    deviation: float | None
    accuracy: Change | None = None
    tried: tuple[Tried, ...] = ()
    rows: tuple[HistoryRow, ...] = ()
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    example: tuple[Any, ...]
    structure: Structure | OwnStructure

    @property
    def removed(self) -> dict[str, Tensor]:
        """Return the removed units by group: the plan of `prunebench.mask` and `remove`."""
        return {group.name: group.removed for group in self.groups if len(group.removed)}

    @property
    def table(self) -> pd.DataFrame:
        """Return a row per group that could be pruned: its role, and its units before and after."""
        import pandas as pd

        rows = [
            (one.name, one.role, one.units, len(one.kept), one.units - len(one.kept))
            for one in self.groups
        ]
        return pd.DataFrame(rows, columns=["group", "role", "units", "kept", "removed"])

    @property
    def history(self) -> pd.DataFrame:
        """Return a row per epoch, as `prunebench.finetune` does; empty without training."""
        return history_table(self.rows)

    @property
    def zeros(self) -> dict[str, Tensor]:
        """Return `masks` without the weights that are no longer zero, since they were trained."""
        return {
            name: mask | (self.model.get_parameter(name) != 0).cpu()
            for name, mask in self.masks.items()
        }

    def __repr__(self) -> str:
        return "\n".join(report_lines(self))

    def save(self, folder: Path | str) -> None:
        """Write the network as it is now into a folder, from which `prunebench.load` loads it.

        `structure.json`, `model.safetensors` and `masks.safetensors` are the files of a run
        (`prunebench.network`); report.txt is the printed report. ResultError if a file cannot be
        written.
        """
        folder = Path(folder)
        save_network(folder, self.model, self.structure, self.zeros)
        with replacing(folder / "report.txt") as temporary:
            temporary.write_text(f"{self}\n", encoding="utf-8")

    def export(self, path: Path | str) -> float:
        """Write the network as it is now for other programs, for any batch size.

        The suffix is the format: .onnx (extra `onnx`), .pt2 or .safetensors. The written network is
        run, and its outputs are compared with this one's; return their largest relative difference.
        See `prunebench.export`.
        """
        from prunebench.export import export_network  # loads PyTorch's exporter

        return export_network(self.model, path, self.example, self.structure)


def composed(model: nn.Module, groups: tuple[PrunedGroup, ...]) -> dict[str, tuple[int, Tensor]]:
    """Return the units of each group before any pruning, and those that are left of them.

    `model` is the given network, which may have been pruned before.
    """
    found: dict[str, tuple[int, Tensor]] = {
        name: (one.units, torch.tensor(one.kept)) for name, one in first_groups(model).items()
    }
    for group in groups:
        units, before = found.get(group.name, (group.units, torch.arange(group.units)))
        found[group.name] = (units, before[group.kept])
    return found
