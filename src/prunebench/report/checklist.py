"""The evaluation checklist of the pruning literature, answered from the runs of an experiment.

Source: Blalock et al., "What is the State of Neural Network Pruning?" (arXiv 2003.03033), appendix
B, in our words. An item passes only if every row of the experiment fulfils it; the evidence says
what was found. What no table can show is listed at the end, for the authors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from prunebench.core.files import write_texts
from prunebench.report.headings import titled
from prunebench.report.looks import look
from prunebench.report.other_code import by_other_code
from prunebench.report.runs_csv import CELL, NETWORK, UNPRUNED, metric_of, read_runs
from prunebench.report.summary_table import experiments_in
from prunebench.report.table import DASH, Cell, Column, Line, Section, Table
from prunebench.report.table_formats import to_latex, to_markdown

POINTS = 5  # operating points of a curve; fewer do not show a trade-off
SUBSTANTIAL = 5.0  # points of accuracy; a curve should reach a drop of this size
SEEDS = 3
LEGEND = (
    "The checklist for evaluating a pruning method of Blalock et al. (arXiv 2003.03033, appendix "
    "B), in our words. An item passes only if every row of the experiment fulfils it."
)
COLUMNS = (
    Column("item", "item", style="prose"),
    Column("result", "result"),
    Column("evidence", "evidence", style="prose"),
)


@dataclass(frozen=True)
class Answer:
    """Whether an item is fulfilled, and the evidence in words."""

    passes: bool
    evidence: str


@dataclass(frozen=True)
class Item:
    """One item of the checklist, and the function of the runs that answers it."""

    words: str
    answer: Callable[[pd.DataFrame], Answer]


def write_checklist(runs_csv: Path, out: Path, title: str | None = None) -> list[Path]:
    """Write checklist.md and checklist.tex; return their paths."""
    table = checklist(read_runs(runs_csv), title)
    return write_texts(out, {"checklist.md": to_markdown(table), "checklist.tex": to_latex(table)})


def checklist(frame: pd.DataFrame, title: str | None = None) -> Table:
    """Return the table of all items, with a section for each part of the checklist."""
    sections = []
    for part, items in ITEMS.items():
        answers = [item.answer(frame) for item in items]
        passed = sum(answer.passes for answer in answers)
        pairs = zip(items, answers, strict=True)
        lines = [_line(i.words, "pass" if a.passes else "fail", a.evidence) for i, a in pairs]
        sections.append(Section(part, f"{passed} of {len(items)} pass", tuple(lines), ()))
    left = tuple(_line(words, DASH, "not visible in a table of runs") for words in FOR_AUTHORS)
    sections.append(Section("For the authors", f"{len(left)} items", left, ()))
    heading = titled(f"{title or experiments_in(frame)} · checklist", frame)
    return Table(heading, LEGEND, COLUMNS, tuple(sections))


def _line(*texts: str) -> Line:
    return Line(tuple(Cell(text, key=text) for text in texts), False, False)


# --- the experiments


def _architectures(frame: pd.DataFrame) -> Answer:
    bases = frame.drop_duplicates("architecture")
    rows = zip(bases["architecture"], bases["base_params"], bases["base_macs"], strict=True)
    words = [f"{name} ({params:,} parameters, {macs:,} MACs)" for name, params, macs in rows]
    return Answer(True, f"built by name: {_listed(words)}; runs.csv has the width of every layer")


def _recipes(frame: pd.DataFrame) -> Answer:
    trained = frame[frame["epochs"] > 0]
    known = [json.loads(text) for text in trained["recipes"]]
    missing = sum(not recipes for recipes in known)
    names = dict.fromkeys(str(one["name"]) for recipes in known for one in recipes.values())
    if missing:
        return Answer(False, f"{missing} of {len(trained)} trained runs record no recipe")
    where = "batch size, augmentation, learning rates and the rest are in the column recipes"
    return Answer(True, f"{_listed(names)}: {where}" if names else "no run trains")


def _versions(frame: pd.DataFrame) -> Answer:
    known = frame[["versions", "device", "processor"]].fillna("").astype(str)
    missing = int((known[["versions", "device"]] == "").any(axis=1).sum())
    if missing:
        return Answer(False, f"{missing} of {len(frame)} runs do not record versions or device")
    torch = {f"torch {json.loads(text).get('torch', 'unknown')}" for text in known["versions"]}
    devices = {" on ".join(filter(None, pair)) for pair in known[["device", "processor"]].values}
    return Answer(True, f"{_listed(sorted(torch))}; {_listed(sorted(devices))}")


def _code(frame: pd.DataFrame) -> Answer:
    commits = frame["commit"].dropna().unique()
    other, without = len(by_other_code(frame)), int(frame["commit"].isna().sum())
    words = [
        f"{without} of {len(frame)} runs record no commit" if without else "",
        f"the code of their method has changed since {other} of the runs" if other else "",
    ]
    if problem := "; ".join(filter(None, words)):
        return Answer(False, problem)
    return Answer(True, f"commits of prunebench: {_listed(map(str, commits))}")


# --- the results


def _range(frame: pd.DataFrame) -> Answer:
    pruned = _pruned(frame)
    curves = pruned.groupby([*NETWORK, "method", "setting", "ratio_kind"], sort=False)
    points = curves["speedup_theoretical"].apply(lambda speedups: speedups.round(2).nunique())
    drops = curves["drop"].max()
    enough = (points >= POINTS) & (drops >= SUBSTANTIAL)
    metric = metric_of(frame).short
    least, most = points.min(), points.max()
    evidence = (
        f"{enough.sum()} of {len(points)} curves have {POINTS} operating points or more and reach "
        f"a drop of {SUBSTANTIAL:g} points of {metric}; "
        + (f"all have {least}" if least == most else f"they have {least} to {most}")
    )
    return Answer(bool(enough.all()) and len(points) > 0, evidence)


def _raw(frame: pd.DataFrame) -> Answer:
    missing = int(frame[["base_accuracy", "accuracy"]].isna().any(axis=1).sum())
    metric = metric_of(frame).short
    if missing:
        return Answer(False, f"{missing} of {len(frame)} runs lack their {metric}, or their base's")
    return Answer(True, f"each row has its {metric} and its base's, not only a difference")


def _seeds(frame: pd.DataFrame) -> Answer:
    n = _seeds_of_rows(frame)
    bases = frame.dropna(subset="base_hash").groupby(NETWORK)["base_hash"].nunique()
    evidence = f"{(n >= SEEDS).sum()} of {len(n)} rows have {SEEDS} seeds or more"
    shared = [str(network[1]) for network, count in bases.items() if count < 2]  # type: ignore[index]
    if shared:
        evidence += f"; {_listed(shared)}: one base network for all seeds"
    return Answer(bool((n >= SEEDS).all()) and len(n) > 0 and not shared, evidence)


def _spread(frame: pd.DataFrame) -> Answer:
    n = _seeds_of_rows(frame)
    evidence = (
        f"{(n >= 2).sum()} of {len(n)} rows print mean ± sample standard deviation; a row of one "
        "seed prints no spread"
    )
    return Answer(bool((n >= 2).all()) and len(n) > 0, evidence)


def _seeds_of_rows(frame: pd.DataFrame) -> pd.Series:
    return _pruned(frame).groupby(CELL, dropna=False)["seed"].nunique()


def _costs(frame: pd.DataFrame) -> Answer:
    missing = int(frame[["macs", "base_macs", "params"]].isna().any(axis=1).sum())
    if missing:
        return Answer(False, f"{missing} of {len(frame)} runs lack MACs or parameters")
    return Answer(True, "MACs (counted by fvcore) and parameters of every row, and of its base")


# --- the comparisons


def _global_random(frame: pd.DataFrame) -> Answer:
    is_random = (frame["method"] == "random") & (frame["ratio_kind"] == "units_global")
    own = frame[is_random].dropna(subset="ratio")
    return Answer(len(own) > 0, f"{len(own.groupby(CELL))} rows rank all units together")


def _random_widths(frame: pd.DataFrame) -> Answer:
    return _at_same_widths(frame, ("random",))


def _magnitude(frame: pd.DataFrame) -> Answer:
    return _at_each_ratio(frame, ("l1", "l2"))


def _magnitude_widths(frame: pd.DataFrame) -> Answer:
    return _at_same_widths(frame, ("l1", "l2"))


def _at_each_ratio(frame: pd.DataFrame, baselines: tuple[str, ...]) -> Answer:
    """Whether each network and ratio has a row of one of the baselines."""
    pruned = _pruned(frame).dropna(subset="ratio")
    place = [*NETWORK, "ratio_kind", "ratio"]
    there = {tuple(row) for row in pruned[pruned["method"].isin(baselines)][place].to_numpy()}
    asked = {tuple(row) for row in pruned[place].to_numpy()}
    found = len(asked & there)
    words = f"{found} of {len(asked)} ratios have a row of {' or '.join(baselines)}"
    return Answer(found == len(asked) > 0, words)


def _at_same_widths(frame: pd.DataFrame, baselines: tuple[str, ...]) -> Answer:
    """Whether each run of another method has a baseline with the same width of every layer."""
    pruned = _pruned(frame)
    key = [*NETWORK, "seed", "widths"]
    is_baseline = pruned["method"].isin(baselines)
    there = {tuple(row) for row in pruned[is_baseline][key].to_numpy()}
    is_control = pruned["method"].map(lambda name: look(name).group == "control").astype(bool)
    others = pruned[~is_control]
    others = others[~others["method"].isin(baselines)]
    found = others.assign(matched=[tuple(row) in there for row in others[key].to_numpy()])
    matched = found.groupby(CELL, dropna=False)["matched"].all()
    words = (
        f"{matched.sum()} of {len(matched)} rows of other methods have a row of "
        f"{' or '.join(baselines)} with the same width of every layer, seed by seed"
    )
    return Answer(bool(matched.all()) and len(others) > 0, words)


def _others(frame: pd.DataFrame) -> Answer:
    methods = [str(name) for name in frame["method"].unique() if name != UNPRUNED]
    papers = [name for name in methods if look(name).group == "paper"]
    baselines = [name for name in methods if look(name).group == "baseline"]
    evidence = (
        f"methods of the six papers: {_listed(papers) or 'none'}; baselines: "
        f"{_listed(baselines) or 'none'}"
    )
    return Answer(len(papers) + len(baselines) >= 2, evidence)


def _produced(frame: pd.DataFrame) -> Answer:
    printed = "printed" in frame and bool(frame["printed"].notna().any())
    evidence = "every row was computed by prunebench, with its own implementation of each method"
    if printed:
        evidence += "; published.md compares them with the printed rows, the reasons included"
    return Answer(True, evidence)


def _pruned(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["method"] != UNPRUNED]


def _listed(names: Iterable[str], most: int = 8) -> str:
    """Return names joined by commas; further ones are counted.

    >>> _listed(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    every = list(names)
    words = ", ".join(every[:most])
    return words if len(every) <= most else f"{words} and {len(every) - most} more"


ITEMS: dict[str, tuple[Item, ...]] = {
    "Experiments": (
        Item("The architecture is described so that a reader can build it.", _architectures),
        Item("The training is described: batch size, augmentation, schedule.", _recipes),
        Item("Libraries and hardware are named.", _versions),
        Item("The source code of the results can be had.", _code),
    ),
    "Results": (
        Item(
            "A range of pruning ratios is shown, up to ratios that cost much accuracy.",
            _range,
        ),
        Item("The accuracy itself is given at each point.", _raw),
        Item("Runs are repeated with other seeds and initial weights.", _seeds),
        Item("A mean and a measure of variation are given.", _spread),
        Item("Multiply-accumulates are given.", _costs),
    ),
    "Comparisons": (
        Item("There is a random baseline, ranked globally.", _global_random),
        Item("There is a random baseline with each method's widths.", _random_widths),
        Item("There is a magnitude baseline at each ratio, global or uniform.", _magnitude),
        Item("There is a magnitude baseline with each method's widths.", _magnitude_widths),
        Item("Other relevant methods are compared.", _others),
        Item("It is said how the rows of other methods were produced.", _produced),
    ),
}
FOR_AUTHORS = (
    "The method is related to magnitude pruning, to recent methods and to those before 2010.",
    "The algorithm and its parameters are described so that a reader can implement them.",
    "Claims are restricted to the networks, data sets and tasks of the experiments.",
)
