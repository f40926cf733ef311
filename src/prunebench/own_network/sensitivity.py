"""How much accuracy each group of channels costs: a scan over groups and ratios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from prunebench.channels.examples import Example
from prunebench.channels.groups import Grouping
from prunebench.channels.removal import remove
from prunebench.channels.selections import GROUP_ROLES
from prunebench.channels.verify import TOLERANCE
from prunebench.core.errors import ConfigError, RemovalError
from prunebench.criteria.registry import criterion_class
from prunebench.methods.allocation import lowest
from prunebench.methods.registry import method_class
from prunebench.own_network.loaded_batches import Loader, Loss
from prunebench.own_network.own_run import Evaluate, OwnRun
from prunebench.own_network.prune_call import PruneCall
from prunebench.own_network.target import options_of
from prunebench.training.pruning import removed_and_difference

if TYPE_CHECKING:
    import pandas as pd

RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """The accuracy of a network that has lost units of one group alone.

    Attributes
    ----------
    base
        Accuracy of the given network.
    table
        A row per group and ratio with the columns group, role, units, ratio, kept, macs_ratio (the
        fraction of the network's multiply-accumulates that this removes) and accuracy.
    frozen
        Group name to the reason why it stays whole.
    """

    base: float
    table: pd.DataFrame
    frozen: Mapping[str, str]

    def plot(self, path: Path | str) -> list[Path]:
        """Draw the accuracy of each group and ratio; return the files.

        The suffix is the format: .svg, .png or .pdf; all three without a suffix.
        """
        from prunebench.own_network.sensitivity_figure import draw, write

        return write(draw(self.table, self.base), Path(path))


def sensitivity(
    model: nn.Module,
    example: Example,
    *,
    evaluate: Evaluate,
    criterion: str = "l1",
    ratios: Sequence[float] = RATIOS,
    keep: Sequence[str] = (),
    grouped: Grouping = "auto",
    data: Loader | None = None,
    loss: Loss | None = None,
    seed: int = 0,
    **options: Any,
) -> Sensitivity:
    """Return the accuracy against the ratio, group by group; all other groups stay whole.

    Needs an evaluation per group and ratio: let `evaluate` use a part of the validation images. The
    other arguments are those of `prunebench.prune`.

    Parameters
    ----------
    evaluate
        From a network in evaluation mode to its accuracy, a number that is better if higher.
    ratios
        Fractions of a group's units to remove, in [0, 1).

    Raises
    ------
    PrunebenchError
        As for `prune`.
    """
    for ratio in ratios:
        if not 0 <= ratio < 1:
            raise ConfigError(f"ratios: {ratio} is not in [0, 1), the fraction to remove")
    criterion_class(criterion)
    kind = method_class(criterion)
    given = {"roles": GROUP_ROLES, "grouped": grouped, "fine_tune": False, **options}
    call = PruneCall(
        model,
        example,
        criterion,
        kind,
        options_of(kind, criterion, given),
        keep=keep,
        data=data,
        loss=loss,
        evaluate=evaluate,
        seed=seed,
    )
    return _scan(call, sorted(ratios))


def _scan(call: PruneCall, ratios: Sequence[float]) -> Sensitivity:
    import pandas as pd

    method, run = call.begin()
    groups = method.candidates(run)
    scores = method.score(run, groups)
    frozen = {name: group.frozen for name, group in run.graph.frozen.items()}
    rows = []
    assert call.before is not None
    for name, group in groups.items():
        counts = {ratio: method.pruned_count(group.n_units, ratio) for ratio in ratios}
        most = {name: lowest(scores[name], max(counts.values(), default=0))}
        if len(most[name]) and (problem := _problem(run, most)):
            frozen[name] = problem
            continue
        accuracies = {0: call.before}  # by number of removed units
        for ratio, count in counts.items():
            if count not in accuracies:
                smaller = remove(run.model, run.graph, {name: lowest(scores[name], count)})
                found = call.evaluated(smaller)
                assert found is not None
                accuracies[count] = found
            left = group.n_units - count
            macs = 1 - run.costs.macs({name: left}) / run.base_macs if run.base_macs else 0.0
            cells = (name, group.role, group.n_units, ratio, left, macs, accuracies[count])
            rows.append(cells)
    columns = ["group", "role", "units", "ratio", "kept", "macs_ratio", "accuracy"]
    table = pd.DataFrame(rows, columns=columns)
    return Sensitivity(base=call.before, table=table, frozen=frozen)


def _problem(run: OwnRun, removed: dict[str, Tensor]) -> str:
    """Return why a removal is wrong; empty if masked and removed compute the same."""
    try:
        _, difference = removed_and_difference(run.model, run.graph, removed, run.probe)
    except RemovalError as error:
        return str(error)
    return "" if difference <= TOLERANCE else f"removal changes the output by {difference:.1e}"
