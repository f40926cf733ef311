"""The structures of printed rows: which network a row means, and how many channels it keeps.

`published_structures/` holds one YAML file per paper, read here. A file names the paper's networks
and has entries; an entry matches rows by their columns, and the first match counts. It gives the
structure of these rows and, per cost column, the rules by which the printed number may follow
(`cost_rules`). A new row of a described table needs a line in the CSV only, a new table an entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from prunebench.core.errors import ConfigError
from prunebench.experiments.settings import Count, Positive, Settings
from prunebench.experiments.validation import validate
from prunebench.experiments.yaml_file import read_yaml
from prunebench.papers.cost_rules import Cell, Column, Digits
from prunebench.papers.published import PublishedRow

KeepRatio = Annotated[float, Field(gt=0, le=1)]
Ratio = Annotated[float, Field(ge=0, lt=1)]
Patterns = Annotated[tuple[str, ...], Field(min_length=1)]


def _pairs(value: object) -> object:
    return tuple(value.items()) if isinstance(value, dict) else value


Ratios = Annotated[
    tuple[tuple[str, Ratio], ...],
    BeforeValidator(_pairs, json_schema_input_type=dict[str, Ratio]),
    Field(min_length=1),
]
FormulaName = Literal["sfp_cifar", "fpgm_imagenet"]
Printed = Literal["printed"]
Match = dict[str, tuple[str, ...]]


class Thinned(Settings):
    """Numbers of kept units of some channel groups. Exactly one of the three numbers is given.

    Attributes
    ----------
    groups
        Patterns as for file names (`*.conv1`, `stages.[12].*`). A group is named after its first
        layer.
    ratio
        ceil(ratio n) units are removed, and at least one is kept: GReg's rounding.
    keep
        int(keep n) units are kept, at least one: FilterSketch's rounding.
    units
        This many units are kept: a published width.
    """

    groups: Patterns
    ratio: Ratio | None = None
    keep: KeepRatio | None = None
    units: Count | None = None

    @model_validator(mode="after")
    def _one_number(self) -> Thinned:
        if [self.ratio, self.keep, self.units].count(None) != 2:
            raise ValueError("give one of ratio, keep and units")
        return self


class Cut(Settings):
    """Parts of convolutions that are not counted, while the layers around them stay whole.

    Attributes
    ----------
    what
        Of n filters, int(ratio n) are not counted, but the next layer still reads n channels:
        HRank's counter. Of n columns of the im2col matrix (the weights of one filter), ceil(ratio
        n) are removed: IncReg.
    ratios
        The ratio of each convolution, by patterns of names; the first that fits counts.
    times
        A factor for all ratios.
    """

    what: Literal["filters", "columns"]
    ratios: Ratios
    times: Positive = 1.0


class Formula(Settings):
    """A paper's closed form for a uniform keep ratio; filter counts are not rounded.

    `sfp_cifar` is the formula of SFP and FPGM for CIFAR ResNets. `fpgm_imagenet` is FPGM's script
    for ResNet-18, -34, -50 and -101, including its slip.
    """

    name: FormulaName
    depth: Count
    keep: KeepRatio = 1.0


class Network(Settings):
    """One of our networks, as a paper uses it."""

    architecture: str
    num_classes: Count
    image: tuple[Count, Count, Count]  # channels, height, width


class CountedStructure(Network):
    """A network and how it is pruned; the first entry of `thinned` that fits a group counts."""

    thinned: tuple[Thinned, ...] = ()
    cut: Cut | None = None
    formula: Formula | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> CountedStructure:
        if sum(map(bool, (self.thinned, self.cut, self.formula))) > 1:
            raise ValueError("thinned, cut and formula exclude each other")
        return self


class ThinnedEntry(Settings):
    """Like `Thinned`; the ratio "printed" is the row's own ratio, which is in percent."""

    groups: Patterns
    ratio: Ratio | Printed | None = None
    keep: KeepRatio | None = None


class FormulaEntry(Settings):
    """Like `Formula`; the keep ratio "printed" is one minus the row's own ratio, in percent."""

    name: FormulaName
    depth: Count
    keep: KeepRatio | Printed


class Entry(Settings):
    """The structure and the cost rules that some rows of a paper share.

    Attributes
    ----------
    match
        Columns of the rows, each with the value or values that fit.
    network
        A key of the file's `networks`; default: the row's "dataset/architecture".
    thinned, widths, cut, formula
        The pruned structure; default: the unpruned network. `widths` are the kept units of channel
        groups by name; other groups keep all.
    digits
        How the rows print a number: rounded, truncated, or either.
    quantum
        The value of the last printed digit, by column, where trailing zeros hide it.
    cells
        The rules of each column.
    """

    match: Match
    network: str = ""
    thinned: tuple[ThinnedEntry, ...] = ()
    widths: dict[str, Count] = {}
    cut: Cut | None = None
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
            raise ValueError(f"{unknown!r} is not a column of published rows")
        return {k: tuple(v) if isinstance(v, list) else (v,) for k, v in value.items()}

    def fits(self, row: PublishedRow) -> bool:
        """Whether the row has one of the given values in every column of `match`."""
        return all(text_of(row, name) in values for name, values in self.match.items())


class PaperStructures(Settings):
    """The content of one YAML file."""

    networks: dict[str, Network]
    rows: tuple[Entry, ...]

    def entry_of(self, row: PublishedRow) -> Entry | None:
        """Return the first entry that fits a row."""
        return next((entry for entry in self.rows if entry.fits(row)), None)

    def base_of(self, row: PublishedRow, entry: Entry) -> CountedStructure | None:
        """Return the row's unpruned network; None if it is not known."""
        network = self.networks.get(entry.network or f"{row.dataset}/{row.architecture}")
        if network is None:
            return None
        formula = entry.formula
        whole = Formula(name=formula.name, depth=formula.depth) if formula else None
        return CountedStructure(**network.model_dump(), formula=whole)

    def structure_of(self, row: PublishedRow, entry: Entry) -> CountedStructure | None:
        """Return the row's pruned network; None if its network is not known.

        Raises ConfigError if the entry uses the printed ratio and the row has none.
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
        thinned += tuple(Thinned(groups=(name,), units=n) for name, n in entry.widths.items())
        formula = None
        if entry.formula:
            keep = entry.formula.keep
            share = 1 - printed_ratio(row) if keep == "printed" else keep
            formula = Formula(name=entry.formula.name, depth=entry.formula.depth, keep=share)
        return base.model_copy(update={"thinned": thinned, "cut": entry.cut, "formula": formula})


def text_of(row: PublishedRow, name: str) -> str:
    """Return a column as printed; an empty cell is an empty string."""
    value = getattr(row, name)
    return "" if value is None else str(value)


def printed_ratio(row: PublishedRow) -> float:
    """Return the row's printed percentage as a fraction; ConfigError if it prints none."""
    if row.ratio_printed is None:
        raise ConfigError(
            f"published_structures/{row.paper}.yaml: {row.table}, {row.architecture}, "
            f"{row.method}: the entry uses the printed ratio, but the row has none"
        )
    return float(row.ratio_printed / 100)


def structures_dir() -> Path:
    """Return the folder of the YAML files that are installed with the package."""
    return Path(str(files("prunebench"))) / "papers" / "published_structures"


def read_structures(
    papers: Sequence[str], folder: Path | None = None
) -> dict[str, PaperStructures]:
    """Read the files of some papers; ConfigError names file and key of an invalid entry."""
    folder = folder or structures_dir()
    found = {}
    for paper in papers:
        path = folder / f"{paper}.yaml"
        found[paper] = validate(PaperStructures, read_yaml(path), str(path))
    return found
