"""Run an experiment on another data set, or shortened, as part of its name.

`greg_table1_on_digits_x0_05` is experiments/greg_table1.yaml with the data set digits and a
twentieth of all epochs, and `greg_table1_steps200_images1000` a trial of at most 200 steps in each
phase, on at most 1,000 images of each split. Recipes are named in the same way. Since the names
differ, results are kept apart from those of the original experiment.
"""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from prunebench.core.errors import ConfigError, shown
from prunebench.core.files import parsed_json
from prunebench.experiments.settings import Settings, Slug, is_name

SMALLEST_SCALE = 1e-4  # it is spelled out in names
Scale = Annotated[
    float,
    Field(
        ge=SMALLEST_SCALE,
        le=1,
        description=(
            "Factor of the epochs of all recipes; lengths that methods count in steps follow."
        ),
    ),
]


MaxSteps = Annotated[
    int | None,
    Field(
        ge=1,
        description="Trial: largest number of steps of each training phase (default: no limit). "
        "Schedules of the learning rate shrink with their phase.",
    ),
]
MaxImages = Annotated[
    int | None,
    Field(
        ge=2,
        description="Trial: largest number of images of each split, spread evenly over it "
        "(default: all).",
    ),
]


class Override(Settings):
    """Changes to every experiment of a configuration."""

    dataset: Slug | None = Field(
        None, description="Data set to use (default: the experiment's own)."
    )
    epochs_scale: Scale = 1.0
    max_steps: MaxSteps = None
    max_images: MaxImages = None

    @property
    def suffix(self) -> str:
        """Return the ending of the experiments' names.

        >>> Override(dataset="digits", epochs_scale=0.05).suffix, Override().suffix
        ('_on_digits_x0_05', '')
        >>> Override(max_steps=200, max_images=1000).suffix
        '_steps200_images1000'
        """
        data = f"_on_{self.dataset}" if self.dataset else ""
        steps = "" if self.max_steps is None else f"_steps{self.max_steps}"
        images = "" if self.max_images is None else f"_images{self.max_images}"
        return data + scale_suffix(self.epochs_scale) + steps + images

    @property
    def words(self) -> list[str]:
        """Return what is shortened, for a title.

        >>> Override(epochs_scale=0.05, max_steps=200, max_images=1000).words
        ['epochs × 0.05', 'at most 200 steps per phase', 'at most 1,000 images']
        """
        found = [] if self.epochs_scale == 1 else [f"epochs × {self.epochs_scale:g}"]
        found += [] if self.max_steps is None else [f"at most {self.max_steps:,} steps per phase"]
        return found + ([] if self.max_images is None else [f"at most {self.max_images:,} images"])


def scale_suffix(scale: float) -> str:
    """Return the ending of the name of a shortened experiment or recipe.

    >>> scale_suffix(0.5), scale_suffix(1.0)
    ('_x0_5', '')
    """
    if scale == 1:
        return ""
    return "_x" + format(Decimal(repr(scale)).normalize(), "f").replace(".", "_")


def _parsed(value: Any) -> Any:
    """Parse text as JSON, which is how Snakemake's command line passes it on."""
    try:
        return parsed_json(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError(f'{shown(value)} is not JSON such as {{"epochs_scale": 0.1}}') from None


MaybeOverride = Annotated[Override | None, BeforeValidator(_parsed)]


def split_override(folder: Path, name: str) -> tuple[str, Override]:
    """Split a name into the name of a file in `folder` and an override.

    The override is empty if a file has exactly this name, or if the name has no such ending.
    ConfigError if its scale is too small.
    """
    if not is_name(name):
        return name, Override()
    found = re.fullmatch(
        r"(.+?)(?:_on_([a-z][a-z0-9_]*?))?(?:_x(0_\d+))?"
        r"(?:_steps([1-9]\d*))?(?:_images([1-9]\d*))?",
        name,
    )
    assert found is not None
    if (folder / f"{name}.yaml").is_file():
        return name, Override()
    scale = float(found[3].replace("_", ".")) if found[3] else 1.0
    check_scale(scale, name)
    most = {"max_steps": found[4], "max_images": found[5]}
    if most["max_images"] == "1":
        raise ConfigError(f"{name}: at least 2 images are needed")
    limits = {key: int(value) for key, value in most.items() if value}
    return found[1], Override(dataset=found[2], epochs_scale=scale, **limits)


def check_scale(scale: float, where: str) -> None:
    """Raise ConfigError, beginning with `where`, if a factor of the epochs is too small."""
    if scale < SMALLEST_SCALE:
        raise ConfigError(
            f"{where}: the epochs have the factor {scale:g}, at least {SMALLEST_SCALE:g} is allowed"
        )
