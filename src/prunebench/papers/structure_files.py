"""Read papers/published_structures: the network and structure of a printed row, and its cells.

One YAML file per paper. An entry fits rows by their columns; the first that fits counts. A new row
of a table that is described already needs a line in the CSV alone, a new table an entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from prunebench.core.errors import ConfigError
from prunebench.experiments.settings import Settings
from prunebench.experiments.validation import read_yaml, validate
from prunebench.papers.cost_rules import Cell, Column, Digits
from prunebench.papers.published import PublishedRow
from prunebench.papers.structures import (
    CountedStructure,
    Formula,
    KeepRatio,
    Patterns,
    Ratio,
    Thinned,
)

Printed = Literal["printed"]
Match = dict[str, tuple[str, ...]]


class Network(Settings):
    """The network of ours that a paper means."""

    architecture: str
    num_classes: Annotated[int, Field(ge=1)]
    image: tuple[int, int, int]  # channels, height, width


class ThinnedEntry(Settings):
    """As `core.structure.Thinned`; "printed" takes the row's own ratio, which is in percent."""

    groups: Patterns
    ratio: Ratio | Printed | None = None
    keep: KeepRatio | None = None


class FormulaEntry(Settings):
    """As `core.structure.Formula`; "printed" is one minus the row's own ratio, in percent."""

    name: Literal["sfp_cifar", "fpgm_imagenet"]
    depth: int
    keep: KeepRatio | Printed


class Entry(Settings):
    """What some rows of a paper have in common.

    Attributes
    ----------
    match
        Columns and the values that fit, one or several.
    network
        A key of the file's `networks`; without it "dataset/architecture" of the row.
    thinned, formula
        The structure; without them it is the base's.
    digits
        How the rows print a number: rounded, truncated, or either.
    quantum
        The value of the last printed digit, by column, where trailing zeros hide it.
    cells
        By column.
    """

    match: Match
    network: str = ""
    thinned: tuple[ThinnedEntry, ...] = ()
    formula: FormulaEntry | None = None
    digits: Digits = "round"
    quantum: dict[Column, Decimal] = {}
    cells: dict[Column, Cell] = {}

    @field_validator("match", mode="before")
    @classmethod
    def _one_value_is_a_list(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        fields = PublishedRow.model_fields
        if unknown := next((name for name in value if name not in fields), None):
            raise ValueError(f"{unknown!r} is no column of a published row")
        return {k: tuple(v) if isinstance(v, list) else (v,) for k, v in value.items()}

    def fits(self, row: PublishedRow) -> bool:
        """Whether every column is as asked."""
        return all(text_of(row, name) in values for name, values in self.match.items())


class PaperStructures(Settings):
    """The content of one file."""

    networks: dict[str, Network]
    rows: tuple[Entry, ...]

    def entry_of(self, row: PublishedRow) -> Entry | None:
        """Return the first entry that fits a row."""
        return next((entry for entry in self.rows if entry.fits(row)), None)

    def base_of(self, row: PublishedRow, entry: Entry) -> CountedStructure | None:
        """Return what the row's unpruned network counts as; None if it is not known."""
        network = self.networks.get(entry.network or f"{row.dataset}/{row.architecture}")
        if network is None:
            return None
        formula = entry.formula
        whole = Formula(name=formula.name, depth=formula.depth) if formula else None
        return CountedStructure(
            architecture=network.architecture,
            num_classes=network.num_classes,
            image=network.image,
            formula=whole,
        )

    def structure_of(self, row: PublishedRow, entry: Entry) -> CountedStructure | None:
        """Return what the row's pruned network counts as; None if its network is not known.

        Raises ConfigError where the printed ratio is asked for and the row has none.
        """
        base = self.base_of(row, entry)
        if base is None:
            return None
        thinned = tuple(
            Thinned(
                groups=part.groups,
                ratio=printed_ratio(row) if part.ratio == "printed" else part.ratio,
                keep=part.keep,
            )
            for part in entry.thinned
        )
        formula = None
        if entry.formula:
            keep = entry.formula.keep
            share = 1 - printed_ratio(row) if keep == "printed" else keep
            formula = Formula(name=entry.formula.name, depth=entry.formula.depth, keep=share)
        return base.model_copy(update={"thinned": thinned, "formula": formula})


def text_of(row: PublishedRow, name: str) -> str:
    """Return a column as it is printed; an empty cell is an empty text."""
    value = getattr(row, name)
    return "" if value is None else str(value)


def printed_ratio(row: PublishedRow) -> float:
    """Return the row's printed percentage as a fraction; ConfigError where there is none."""
    if row.ratio_printed is None:
        raise ConfigError(
            f"structures/{row.paper}.yaml: {row.table}, {row.architecture}, {row.method}: the "
            "entry asks for the printed ratio and the row has none"
        )
    return float(row.ratio_printed / 100)


def structures_dir() -> Path:
    """Return the folder of the YAML files that are installed with the package."""
    return Path(str(files("prunebench"))) / "papers" / "published_structures"


def read_structures(
    papers: Sequence[str], folder: Path | None = None
) -> dict[str, PaperStructures]:
    """Read the files of some papers; ConfigError, naming file and key, where one does not fit."""
    folder = folder or structures_dir()
    found = {}
    for paper in papers:
        path = folder / f"{paper}.yaml"
        found[paper] = validate(PaperStructures, read_yaml(path), str(path))
    return found
