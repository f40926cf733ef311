"""What a stored run records, as lines of text, and what differs between two runs.

Two runs that should agree differ first in their inputs and then in their results. The inputs are
listed in the order in which they usually explain a difference: specification, data, base network,
source code, versions, processor, how the run was executed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from prunebench.core.errors import ResultError
from prunebench.core.files import read_object
from prunebench.experiments.results import (
    CostResult,
    HistoryRow,
    LatencyResult,
    TrainingResult,
    read_history,
)

STRUCTURE_FILE = "structure.json"
# Fields of training.json, most likely cause first, with their words.
CAUSES = (
    ("data_sha256", "data"),
    ("base_hash", "base network"),
    ("pretrained", "imported weights"),
    ("code", "source code of the method"),
    ("commit", "commit"),
    ("versions", "versions"),
    ("device", "device"),
    ("processor", "processor"),
    ("threads", "threads"),
    ("processes", "processes"),
    ("more_parts", "parts of a batch"),
    ("deterministic", "deterministic algorithms"),
    ("resumed_at", "resumes"),
)
LABELS = ("experiment", "setting")  # of a specification; they change no result


def shown(folder: Path) -> Iterator[str]:
    """Yield what a run's folder records; ResultError if training.json is missing or damaged."""
    run = TrainingResult.read(folder)
    metric, spec = run.metric, run.spec
    name = " · ".join(str(spec[key]) for key in ("dataset", "architecture") if key in spec)
    yield f"{folder}"
    yield _line("network", name)
    if "method" in spec:
        ratio = "by the method" if spec["ratio"] is None else f"{spec['ratio']:g}"
        words = f"{spec['method']} · {spec['setting']} · ratio {ratio} of {spec['ratio_kind']}"
        yield _line("method", words)
    for key, value in sorted((run.options or {}).items()):
        if key in spec.get("options", {}):
            yield _line("option", f"{key}: {short(value)}")
    yield _line("seed", f"{spec['seed']} · threads {run.threads} · processes {run.processes}")
    yield _line("accuracy", f"{metric.short} {run.accuracy:.2f} % on the test split")
    if run.val_accuracy is not None:
        yield _line("", f"{metric.short} {run.val_accuracy:.2f} % on the validation split")
    for phase, seconds in run.seconds.items():
        yield _line("phase", f"{phase}: {seconds:.1f} s")
    for plan in run.plans:
        yield _line(
            "removal",
            f"in {plan.phase}: {metric.short} {plan.test_accuracy_before:.2f} -> "
            f"{plan.test_accuracy_after:.2f} %, {plan.macs:,} MACs and {plan.params:,} parameters "
            "left",
        )
    for phase in run.capped:
        yield _line("capped", f"{phase} reached its maximum length unfinished")
    for key, number in run.summary.items():
        yield _line("number", f"{key}: {number:g}")
    yield from _measured(folder)
    for field, words in CAUSES:
        if (value := getattr(run, field)) not in (None, ()):
            yield _line("recorded", f"{words}: {short(value)}")
    yield _line("recorded", f"specification: {run.spec_hash} · weights: {run.weights_sha256:.16}")
    if run.date:
        yield _line("recorded", f"date: {run.date}")


def _measured(folder: Path) -> Iterator[str]:
    """Yield the costs and latencies of a run, if it has been measured."""
    if (folder / CostResult.FILE).exists():
        cost = CostResult.read(folder)
        yield _line("cost", f"{cost.macs:,} of {cost.base_macs:,} MACs")
        yield _line("", f"{cost.params:,} of {cost.base_params:,} parameters")
    if (folder / LatencyResult.FILE).exists():
        for entry in LatencyResult.read(folder).entries:
            yield _line(
                "latency",
                f"{entry.median_ms:.3g} ms at batch {entry.batch_size} on {entry.device}, "
                f"{entry.speedup:.2f} times as fast as the base network"
                + (f"; unstable: {entry.unstable}" if entry.unstable else ""),
            )


def differences(a: Path, b: Path) -> Iterator[str]:
    """Yield what differs between two runs: causes first, then results; nothing if they agree.

    ResultError if a training.json is missing or damaged.
    """
    one, two = TrainingResult.read(a), TrainingResult.read(b)
    for key, pair in _differing(flat(one.spec), flat(two.spec)):
        is_label = key in LABELS
        yield _pair("label" if is_label else "specification", key, pair)
    for field, words in CAUSES:
        pair = getattr(one, field), getattr(two, field)
        if pair[0] != pair[1]:
            if isinstance(pair[0], Mapping) and isinstance(pair[1], Mapping):
                for key, parts in _differing(flat(pair[0]), flat(pair[1])):
                    yield _pair(words, key, parts)
            else:
                yield _pair(words, "", pair)
    yield from _first_row(a, b, one, two)
    yield from _widths(a, b)
    if one.weights_sha256 != two.weights_sha256:
        yield _pair("weights", "", (one.weights_sha256, two.weights_sha256))
    if one.task != two.task or one.accuracy != two.accuracy:
        accuracies = (f"{run.metric.short} {run.accuracy:.4f} %" for run in (one, two))
        yield _pair("accuracy", "", tuple(accuracies))


def _first_row(a: Path, b: Path, one: TrainingResult, two: TrainingResult) -> Iterator[str]:
    """Yield the first row of the histories that differs, times aside."""
    rows = [read_history(folder, run.metric) for folder, run in ((a, one), (b, two))]
    plain = [[row._replace(seconds=None) for row in own] for own in rows]
    for first, second in zip(*plain, strict=False):
        if first != second:
            field = next(f for f in HistoryRow._fields if getattr(first, f) != getattr(second, f))
            where = f"phase {first.phase}, epoch {first.epoch}, {field}"
            yield _pair("history", where, (getattr(first, field), getattr(second, field)))
            return
    if len(plain[0]) != len(plain[1]):
        yield _pair("history", "rows", (len(plain[0]), len(plain[1])))


def _kept_units(path: Path) -> dict[str, list[int]]:
    groups = read_object(path).get("groups", {})
    try:
        return {name: list(group["kept"]) for name, group in groups.items()}
    except (AttributeError, KeyError, TypeError):
        raise ResultError(f"{path}: not the structure of a network; train it again") from None


def _widths(a: Path, b: Path) -> Iterator[str]:
    """Yield the first layer of which the runs keep different units."""
    units = [_kept_units(folder / STRUCTURE_FILE) for folder in (a, b)]
    for name in units[0]:
        kept = [own.get(name) for own in units]
        if kept[0] != kept[1]:
            counts = tuple("no such layer" if k is None else f"{len(k)} units" for k in kept)
            words = f"{name} (first of those that differ)"
            if counts[0] == counts[1]:
                counts = tuple(f"{text} {short(k)}" for text, k in zip(counts, kept, strict=True))
            yield _pair("kept units", words, counts)
            return


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested keys joined by dots.

    >>> flat({"a": {"b": 1}, "c": 2})
    {'a.b': 1, 'c': 2}
    """
    found: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _differing(
    one: Mapping[str, Any], two: Mapping[str, Any]
) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for key in [*one, *(key for key in two if key not in one)]:
        pair = one.get(key, "-"), two.get(key, "-")
        if pair[0] != pair[1]:
            yield key, pair


def _pair(kind: str, what: str, pair: tuple[Any, ...]) -> str:
    return _line(kind, f"{what}{': ' if what else ''}{short(pair[0])} | {short(pair[1])}")


def _line(kind: str, text: str) -> str:
    return f"{kind:<14} {text}"


def short(value: Any) -> str:
    """Return a value in at most 100 characters, of a SHA-256 the first 16.

    >>> short({"torch": "2.14.1"}), short("x" * 199)[-3:], short("0" * 64)
    ('{"torch": "2.14.1"}', 'xx…', '0000000000000000')
    """
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if re.fullmatch("[0-9a-f]{64}", text):
        return text[:16]
    return text if len(text) <= 100 else f"{text[:99]}…"
