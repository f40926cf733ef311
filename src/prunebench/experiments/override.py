"""Run an experiment on another data set, or shortened, as part of its name.

`greg_table1_on_digits_x0_05` is experiments/greg_table1.yaml with the data set digits and a
twentieth of all epochs. Recipes are named in the same way. Since the names differ, results are
kept apart from those of the original experiment.
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


class Override(Settings):
    """Changes to every experiment of a configuration."""

    dataset: Slug | None = Field(
        None, description="Data set to use (default: the experiment's own)."
    )
    epochs_scale: Scale = 1.0

    @property
    def suffix(self) -> str:
        """Return the ending of the experiments' names.

        >>> Override(dataset="digits", epochs_scale=0.05).suffix, Override().suffix
        ('_on_digits_x0_05', '')
        """
        data = f"_on_{self.dataset}" if self.dataset else ""
        return data + scale_suffix(self.epochs_scale)


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
    found = re.fullmatch(r"(.+?)(?:_on_([a-z][a-z0-9_]*?))?(?:_x(0_\d+))?", name)
    assert found is not None
    if (folder / f"{name}.yaml").is_file():
        return name, Override()
    scale = float(found[3].replace("_", ".")) if found[3] else 1.0
    check_scale(scale, name)
    return found[1], Override(dataset=found[2], epochs_scale=scale)


def check_scale(scale: float, where: str) -> None:
    """Raise ConfigError, beginning with `where`, if a factor of the epochs is too small."""
    if scale < SMALLEST_SCALE:
        raise ConfigError(
            f"{where}: the epochs have the factor {scale:g}, at least {SMALLEST_SCALE:g} is allowed"
        )
