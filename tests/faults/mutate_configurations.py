"""Mutate configuration files at random, and resolve each mutated configuration.

    python -m tests.faults.mutate_configurations --count 1000

A mutated configuration must either resolve, or fail with a PrunebenchError of one line that names a
file of the configuration. Anything else is a failure, printed with its number, by which
`--only NUMBER` repeats it: another exception, a message of several lines, or more than 20 seconds.
Exits with 1 if there was a failure.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from prunebench.cli import configure
from prunebench.cli.listings import configuration_models
from prunebench.core.errors import PrunebenchError
from prunebench.experiments.config import highlighted_methods, published_text, table_options
from tests.channels.latency_tables import made_table, product_times

CONFIG = Path(__file__).parents[2] / "config"
# Experiments that together use most keys.
EXPERIMENTS = (
    "digits",
    "digits_controls",
    "digits_full",
    "cifar10_no_training",
    "detection_digits",
    "epruner_bases",
    "greg_table1_resnet56",
    "group_fisher_table1",
    "increg_readme_vgg16",
    "timed",
)
TIMED = {
    "title": "A latency table",
    "datasets": ["synthetic"],
    "networks": {"resnet20_x0_25": {"latency_table": "tables/timed.json"}},
    "methods": {"l1": {"ratio_kind": "latency"}, "random": {}},
    "recipes": {"base": "digits_base", "fine_tune": "digits_fine_tune"},
    "seeds": [0],
    "ratios": [0.5],
}
MOST_SECONDS = 20  # of one resolution
MOST_CHARACTERS = 3000  # of a message; the list of experiments has 2000
MOST_MEMORY = 8 * 2**30  # bytes of address space

Mutation = Callable[[str, random.Random], str]  # from a file's text and random numbers

VALUES: tuple[Any, ...] = (
    *(None, True, False, "text", "", " ", "0.5", "auto", "\0", "\ud800", "ä/../b", "../../etc"),
    *(b"bytes", [], {}, [[]], [None], {"a": {}}, {1: 2}, {"": ""}, [0.5, "x"], "a\nb: c", "!!x"),
)
NUMBERS: tuple[Any, ...] = (
    *(-1, 0, 1, 2, 0.1, 0.999999999999, 1.0, 1.5, -0.0, 1e-300, 1e300, 5e-324),
    *(float("inf"), float("nan"), 2**31, 2**32, 2**63, 2**64, 10**30, -(10**30)),
)
KEYS = sorted({key for model in configuration_models().values() for key in model.model_fields})
# As they stand in a file; PyYAML would not write them.
TEXTS = (
    *("1" * 5000, "0x" + "f" * 400, "&a [*a]", "? {a: b}", "- -", "--- a", "%TAG ! x", "!own 1"),
    *("0b1111111111", "1:59:59", "2001-99-99", "1.0e+999", "1e5", "yes", "~", "<<", "*unknown"),
    *("=", "{", "[", "'", '"', "|", "@"),
    *(f"!!{words}" for words in ("bool maybe", "int ten", "int ''", "float x", "null x", "set x")),
    *(f"!!{words}" for words in ("timestamp x", "binary ä", "omap [a]", "seq x", "map []")),
    *("!!str {a: b}", "!!python/object/apply:os.system [id]", "!!python/name:os.system"),
)


def _places(content: Any) -> list[tuple[Any, Any]]:
    """Return every container with each of its keys or indices."""
    found = []
    if isinstance(content, dict | list):
        for key in content if isinstance(content, dict) else range(len(content)):
            found += [(content, key), *_places(content[key])]
    return found


def _of_content(change: Callable[[Any, Any, random.Random], None]) -> Mutation:
    """Return a mutation of one place in the content of a file."""

    @functools.wraps(change)
    def mutate(text: str, rng: random.Random) -> str:
        content = yaml.safe_load(text)
        change(*rng.choice(_places(content)), rng)
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)

    return mutate


@_of_content
def other_type(holder: Any, key: Any, rng: random.Random) -> None:
    """Replace a value by one of another type."""
    holder[key] = rng.choice(VALUES)


@_of_content
def number(holder: Any, key: Any, rng: random.Random) -> None:
    """Replace a value by a number that is often out of range."""
    given = rng.choice(NUMBERS)
    holder[key] = [given] if isinstance(holder[key], list) and rng.random() < 0.7 else given


@_of_content
def deleted(holder: Any, key: Any, rng: random.Random) -> None:
    """Delete a key or an entry."""
    del holder[key]


@_of_content
def added(holder: Any, key: Any, rng: random.Random) -> None:
    """Add a key that some part of a configuration has, with another value."""
    target = next((one for one in (holder[key], holder) if isinstance(one, dict)), None)
    if target is not None:
        target[rng.choice(KEYS)] = rng.choice((holder[key], *VALUES, *NUMBERS))


@_of_content
def misspelt(holder: Any, key: Any, rng: random.Random) -> None:
    """Change a letter of a key or of a text."""
    name = str(key if isinstance(holder, dict) else holder[key])
    at = rng.randrange(len(name) + 1)
    changed = name[:at] + rng.choice("aZ_.-/ 9é\n\0") + name[at + rng.randrange(2) :]
    if isinstance(holder, dict):
        holder[changed] = holder.pop(key)
    else:
        holder[key] = changed


@_of_content
def long_name(holder: Any, key: Any, rng: random.Random) -> None:
    """Replace a key or a value by a very long one."""
    name = rng.choice(["a", "a/", "é", "_x0", "a."]) * rng.choice([60, 101, 300, 5000])
    if isinstance(holder, dict) and rng.random() < 0.5:
        holder[name] = holder.pop(key)
    else:
        holder[key] = name


@_of_content
def moved(holder: Any, key: Any, rng: random.Random) -> None:
    """Put a value where another one stands, or below it."""
    value = holder[key]
    holder[key] = {str(key): value} if rng.random() < 0.5 else [value, value]


def as_text(text: str, rng: random.Random) -> str:
    """Replace a value by a text with a meaning in YAML, such as a tag or an alias."""
    ends = [match.end() for match in re.finditer(r": |- |\[|, ", text)]
    at = rng.choice(ends or [0])
    rest = re.match(r"[^\n,\]}]*", text[at:])
    assert rest is not None
    return text[:at] + rng.choice(TEXTS) + text[at + rest.end() :]


def tagged(text: str, rng: random.Random) -> str:
    """Put a tag before a value."""
    ends = [match.end() for match in re.finditer(r": |- |\[|, ", text)]
    at = rng.choice(ends or [0])
    names = ("bool", "int", "float", "null", "str", "timestamp", "binary", "set", "seq", "map")
    return f"{text[:at]}!!{rng.choice(names)} {text[at:]}"


def nested(text: str, rng: random.Random) -> str:
    """Replace a value by brackets in brackets."""
    depth = rng.choice([10, 60, 500, 5000, 100_000])
    opening, closing = rng.choice([("[", "]"), ("{a: ", "}"), ("- ", ""), ("? ", ""), ("[", "")])
    ends = [match.end() for match in re.finditer(r": ", text)]
    at = rng.choice(ends or [0])
    return f"{text[:at]}{opening * depth}{closing * depth}\n{text[at:]}"


def exploding(text: str, rng: random.Random) -> str:
    """Replace a value by aliases of aliases, which stand for a billion values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    return as_value(text, rng, "{" + ", ".join(lines) + "}")


def as_value(text: str, rng: random.Random, value: str) -> str:
    """Replace the rest of a line after a key."""
    ends = [match.end() for match in re.finditer(r": ", text)]
    at = rng.choice(ends or [0])
    return f"{text[:at]}{value}{text[at:][text[at:].find(chr(10)) :]}"


def duplicated(text: str, rng: random.Random) -> str:
    """Repeat a line."""
    lines = text.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    return "".join([*lines[: at + 1], *lines[at:]])


def shuffled(text: str, rng: random.Random) -> str:
    """Exchange two lines, or indent one."""
    lines = text.splitlines(keepends=True)
    a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
    if rng.random() < 0.5:
        lines[a], lines[b] = lines[b], lines[a]
    else:
        lines[a] = rng.choice(["  ", "\t", "- ", "? ", "#"]) + lines[a]
    return "".join(lines)


def truncated(text: str, rng: random.Random) -> str:
    """Keep the beginning of the file alone."""
    return text[: rng.randrange(len(text))]


def noisy(text: str, rng: random.Random) -> str:
    """Replace a few bytes by random ones, half of the time by those of ASCII alone."""
    content, most = bytearray(text.encode()), rng.choice([128, 256])
    for _ in range(rng.randrange(1, 20)):
        content[rng.randrange(len(content))] = rng.randrange(most)
    return content.decode("latin-1")  # written as latin-1, which restores the bytes


MUTATIONS: tuple[Mutation, ...] = (
    *(other_type, number, deleted, added, misspelt, long_name, moved, as_text, tagged, nested),
    *(exploding, duplicated, shuffled, truncated, noisy),
)


@dataclass(frozen=True)
class Outcome:
    """The outcome of one mutated configuration; `failure` is empty if it is as it must be."""

    number: int
    experiment: str
    file: Path  # below the configuration folder
    mutation: str
    words: str  # the error of one line; empty: it resolved
    failure: str = ""


class TookTooLongError(BaseException):
    """A resolution took more than MOST_SECONDS."""


@contextlib.contextmanager
def limited_time() -> Iterator[None]:
    """Raise TookTooLongError if the block takes too long."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TookTooLongError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(MOST_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def prepared(folder: Path) -> Path:
    """Copy the configuration into a folder, with one more experiment that has a latency table."""
    config = folder / "config"
    shutil.copytree(CONFIG, config)
    (config / "experiments" / "timed.yaml").write_text(yaml.safe_dump(TIMED), encoding="utf-8")
    (config / "tables").mkdir()
    table = made_table({"conv1.weight": (0,)}, (product_times("conv1", 4, 3),))
    table.write(config / "tables" / "timed.json")
    return config


def files_of(config: Path, experiment: str) -> list[Path]:
    """Return the files that an experiment is resolved from."""
    file = config / "experiments" / f"{experiment}.yaml"
    words = re.findall(r"\w+", file.read_text(encoding="utf-8"))
    recipes = [p for p in sorted((config / "recipes").glob("*.yaml")) if p.stem in words]
    tables = [config / "tables" / "timed.json"] if experiment == "timed" else []
    return [config / "config.yaml", file, file, file, *recipes, *tables]


def selection(experiment: str, rng: random.Random) -> dict[str, Any]:
    """Return the content of config.yaml, with some of its keys."""
    keys = {
        "seeds": [0],
        "override": {"dataset": "digits", "epochs_scale": 0.1},
        "reuse": [],
        "data_dir": "data",
        "workers": 0,
        "checkpoint_seconds": 60,
        "device": "cpu",
        "capture": True,
    }
    chosen = {key: keys[key] for key in sorted(keys) if rng.random() < 0.5}
    if experiment in ("detection_digits", "timed"):  # not possible with other images
        chosen.pop("override", None)
    return {"experiments": [experiment], **chosen}


def outcome(number: int, seed: int, config: Path) -> Outcome:
    """Mutate one file of the configuration, resolve it, and restore the file."""
    rng = random.Random(f"{seed} {number}")
    experiment = rng.choice(EXPERIMENTS)
    content = selection(experiment, rng)
    (config / "config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    file = rng.choice(files_of(config, experiment))
    mutation, before = rng.choice(MUTATIONS), file.read_bytes()
    mutated = mutation(before.decode(), rng)
    encoding = "latin-1" if mutation is noisy else "utf-8"
    file.write_bytes(mutated.encode(encoding, "surrogatepass"))
    words, failure = "", ""
    try:
        with limited_time(), warnings.catch_warnings():
            warnings.simplefilter("error")
            resolve(config, experiment)
    except PrunebenchError as error:
        words = str(error)
        if "\n" in words or "\r" in words or not words.strip():
            failure = "the message is not one line"
        elif len(words) > MOST_CHARACTERS:
            failure = f"the message has {len(words)} characters"
        elif str(config) not in words:
            failure = "the message names no file of the configuration"
    except TookTooLongError:
        failure = f"took more than {MOST_SECONDS} seconds"
    except Exception as error:
        failure = f"{type(error).__name__}: {error}"[:300]
    finally:
        file.write_bytes(before)
    return Outcome(number, experiment, file.relative_to(config), mutation.__name__, words, failure)


def resolve(config: Path, experiment: str) -> None:
    """Resolve a configuration as the command and the Snakefile do."""
    with contextlib.redirect_stdout(io.StringIO()):
        configure.resolve(str(config / "config.yaml"), None, config.parent / "results")
    for read in (table_options, highlighted_methods, published_text):
        read(config, experiment)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="Number of a single mutation, to repeat it.")
    parser.add_argument("--show", action="store_true", help="Print every outcome.")
    given = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    numbers = range(given.count) if given.only is None else [given.only]
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        config = prepared(Path(folder))
        for number in numbers:
            found = outcome(number, given.seed, config)
            kind = "failed" if found.failure else "error" if found.words else "resolved"
            counts[kind] += 1
            if found.failure or given.show or given.only is not None:
                what = f"{found.number}: {found.mutation} of {found.file} ({found.experiment})"
                print(f"{kind} {what}: {found.failure or found.words or 'resolved'}", flush=True)
    print(
        f"seed {given.seed}: {len(numbers)} mutations, {counts['resolved']} resolved, "
        f"{counts['error']} errors of one line, {counts['failed']} failures"
    )
    if counts["failed"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
