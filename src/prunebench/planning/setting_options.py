"""The options of one setting of a method, merged from the places that give them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prunebench.experiments.config import MethodConfig
from prunebench.experiments.validation import validate
from prunebench.methods.base import MethodOptions
from prunebench.methods.registry import method_class


def setting_options(
    method: str, cell: MethodConfig, setting: str, where: Path, architecture: str | None = None
) -> MethodOptions:
    """Return the complete options of a setting, on one network if it is given.

    ConfigError names the file `where` and the key of an invalid option.
    """
    parts: dict[str, Mapping[str, Any]] = {
        "options": cell.options,
        f"settings.{setting}": cell.settings[setting].model_extra or {},
    }
    if architecture is not None:
        parts[f"by_network.{architecture}"] = cell.by_network.get(architecture, {})
    merged = {key: value for part in parts.values() for key, value in part.items()}

    def below(option: str) -> str:
        holders = [part for part, options in parts.items() if option in options]
        return f"methods.{method}.{(holders or ['options'])[-1]}"

    return validate(method_class(method).Options, merged, str(where), below)
