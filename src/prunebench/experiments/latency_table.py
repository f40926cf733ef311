"""Latency tables: times of a network's layers by width, measured on one device.

`prunebench latencies` writes one, and an experiment names it for ratios of latency. The time of
a network is predicted as a constant, plus a factor times the sum over its layers, plus the time of
its residual sums, proportional to their elements. All three are fitted to the whole network and
some thinner copies of it.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from prunebench.core.errors import ConfigError, ResultError
from prunebench.core.files import read_json, write_json
from prunebench.experiments.settings import Count, NonNegative, Positive, Settings
from prunebench.experiments.spec import digest
from prunebench.experiments.validation import validate

MET_WITHIN = 0.05  # relative difference of the remaining latency from its target

Widths = Annotated[tuple[Count, ...], Field(min_length=1)]


class LayerTimes(Settings):
    """Times of one kind of layer, with the batch norm and ReLU behind it, at a grid of widths.

    `outputs` are rows of the weight, and `inputs` its columns: input channels, of one group in a
    grouped convolution. `ms` has a row for each of `outputs`.
    """

    layer: str  # in words
    outputs: Widths
    inputs: Widths
    ms: tuple[tuple[Positive, ...], ...]

    @model_validator(mode="after")
    def _check_grid(self) -> Self:
        for name, widths in (("outputs", self.outputs), ("inputs", self.inputs)):
            if any(b <= a for a, b in pairwise(widths)):
                raise ValueError(f"{name} must rise, not {list(widths)}")
        shape = (len(self.outputs), len(self.inputs))
        if len(self.ms) != shape[0] or any(len(row) != shape[1] for row in self.ms):
            raise ValueError(f"ms must have {shape[0]} rows of {shape[1]} times")
        return self


class TimedNetwork(Settings):
    """The whole network or a thinner copy: its measured time, and the one that is predicted."""

    name: str
    measured_ms: Positive
    predicted_ms: Positive


class LatencyTable(Settings):
    """The content of a latency table's file."""

    architecture: str
    num_classes: Count
    image: tuple[Count, Count, Count]  # channels, height, width
    batch_size: Count
    precision: Literal["fp32", "tf32", "bf16"]
    memory_format: Literal["channels_last"]
    device_kind: Literal["cpu", "cuda"]
    device: str
    threads: Count
    torch: str  # version
    date: str
    repeats: Count
    remainder_ms: NonNegative
    factor: NonNegative
    sums: dict[str, NonNegative]  # weight that produces a residual stream -> ms per output channel
    networks: tuple[TimedNetwork, ...]  # to which remainder, factor and sums are fitted
    layers: dict[str, tuple[int, ...]]  # weight -> places in `times`, one for each call
    times: tuple[LayerTimes, ...]

    @model_validator(mode="after")
    def _check_places(self) -> Self:
        for layer, places in self.layers.items():
            if any(not 0 <= place < len(self.times) for place in places):
                raise ValueError(f"layers: {layer!r} refers to times that the table does not have")
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a table; ConfigError if the file is missing or damaged."""
        try:
            content: Any = read_json(path)
        except ResultError as error:
            raise ConfigError(f"{error}; `prunebench latencies` writes a latency table") from None
        return validate(cls, content, str(path))

    def write(self, path: Path) -> None:
        """Write the table as JSON, atomically."""
        write_json(path, self.model_dump(mode="json"))

    @property
    def hash(self) -> str:
        """Return a hash of the content, part of the specification of runs that use it."""
        return digest(self.model_dump(mode="json"))

    def check(
        self, architecture: str, num_classes: int, image: tuple[int, int, int], threads: int
    ) -> None:
        """Raise ConfigError unless the table is about this network, image size and threads.

        Threads matter on a CPU alone.
        """
        wanted: dict[str, Any] = {
            "architecture": architecture,
            "num_classes": num_classes,
            "image": image,
        }
        if self.device_kind == "cpu":
            wanted["threads"] = threads
        for name, value in wanted.items():
            if getattr(self, name) != value:
                raise ConfigError(
                    f"the latency table was measured with {name} {_words(getattr(self, name))}, "
                    f"and the run has {_words(value)}"
                )

    def check_device(self, device: str) -> None:
        """Raise ConfigError unless the table was measured on this device."""
        if self.device != device:
            raise ConfigError(
                f"the latency table was measured on {self.device}, and this machine has {device}; "
                "measure it here with `prunebench latencies`"
            )


def _words(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
