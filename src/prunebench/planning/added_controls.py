"""The controls that an experiment asks for with `controls` and `recipe_cross`.

A difference between two methods has many possible causes besides the criterion. The added runs
separate them: `random` and `l1` under the same training (is the criterion better than none?), both
and two networks trained from fresh weights at each method's own widths (is the choice of units
better, or only that of widths?), the unpruned network trained for as long (what does the training
alone change?), and every method under a second recipe (does the order of the methods hold?).

Sources: Liu et al., "Rethinking the Value of Network Pruning", arXiv 1810.05270; Wang et al., "Why
is the State of Neural Network Pruning so Confusing?", arXiv 2301.05219.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunebench.experiments.config import (
    CONTROLS,
    Control,
    ExperimentConfig,
    MethodConfig,
    SettingConfig,
    named_file,
)
from prunebench.experiments.spec import crossed_setting
from prunebench.methods.base import Method, MethodOptions
from prunebench.methods.registry import method_class
from prunebench.planning.checks import place
from prunebench.planning.setting_options import setting_options

CRITERIA: tuple[Control, ...] = ("random", "l1")
FRESH: tuple[Control, ...] = ("scratch_e", "scratch_b")
FINE_TUNE = "fine_tune"


def with_controls(experiment: ExperimentConfig, config_dir: Path, where: Path) -> ExperimentConfig:
    """Return an experiment with the methods and settings that its keys about controls add.

    Settings that the experiment already names stay as they are. The names of methods and roles must
    have been checked. ConfigError, beginning with the file `where`, for a recipe that does not
    exist and for invalid options.
    """
    methods = dict(experiment.methods)
    for control, settings in _added(experiment, where).items():
        own = methods.get(control)
        if own is not None:
            settings = {name: s for name, s in settings.items() if name not in own.settings}
            methods[control] = own.model_copy(update={"settings": own.settings | settings})
        elif settings:
            # A copy: the names that are added may be longer than those in a file.
            methods[control] = MethodConfig().model_copy(update={"settings": settings})
    for role, recipe in experiment.recipe_cross.items():
        with place(where, f"recipe_cross.{role}"):
            named_file(config_dir, "recipe", recipe)
        for name, cell in methods.items():
            crossed = dict(_crossed(name, cell, role, recipe, where))
            methods[name] = cell.model_copy(update={"settings": crossed})
    return experiment.model_copy(update={"methods": methods})


@dataclass(frozen=True)
class _Source:
    """A setting of a method whose widths controls take."""

    method: str
    setting: str
    chosen: Method[Any]
    shared: dict[str, Any]  # ratios, ratio_kind, networks and seeds
    fine_tune: dict[str, str]  # its own recipe with this role, if any

    @property
    def options(self) -> MethodOptions:
        options: MethodOptions = self.chosen.options
        return options

    @property
    def at_its_widths(self) -> str:
        """Return the name of a control's setting that takes its widths."""
        words = [self.method] if self.setting == "default" else [self.method, self.setting]
        return f"widths_of_{'_'.join(words)}"

    @property
    def fresh(self) -> SettingConfig:
        """Return the setting of a control that starts from fresh weights."""
        return SettingConfig(**self.shared, **self._widths)

    @property
    def tuned(self) -> SettingConfig:
        """Return the setting of a criterion, with the same units to choose from and training."""
        options = {"roles": self.options.roles, **_total_epochs([self.options])}
        return SettingConfig(**self.shared, **self._widths, **options, recipes=self.fine_tune)

    @property
    def _widths(self) -> dict[str, Any]:
        name = f"{self.method}/{self.setting}"
        return {"widths_from": name, "grouped": self.options.grouped}


def _added(experiment: ExperimentConfig, where: Path) -> dict[Control, dict[str, SettingConfig]]:
    """Return the settings to add, by control."""
    wanted = experiment.wanted_controls
    if not wanted:
        return {}
    sources = list(_sources(experiment, where))
    total = _total_epochs(source.options for source in sources)
    plain, trained = SettingConfig(), SettingConfig(fine_tune=True, **total)
    added: dict[Control, dict[str, SettingConfig]] = {control: {} for control in CONTROLS}
    added["unpruned"] = {"default": plain, "trained": trained}
    if experiment.ratios:
        added |= {name: {"default": SettingConfig(**total)} for name in CRITERIA}
        if "l1" in wanted or "default" in _settings_of(experiment, "l1"):
            added |= {name: {"default": plain} for name in FRESH}  # whose default is l1's widths
    for source in sources:
        if source.chosen.chooses_widths(source.shared["ratio_kind"]):
            added["random"][source.at_its_widths] = source.tuned
            added["l1"][source.at_its_widths] = source.tuned
            added["scratch_e"][source.at_its_widths] = source.fresh
            added["scratch_b"][source.at_its_widths] = source.fresh
    return {control: added[control] for control in wanted}


def _settings_of(experiment: ExperimentConfig, method: str) -> dict[str, SettingConfig]:
    cell = experiment.methods.get(method)
    return cell.settings if cell else {}


def _sources(experiment: ExperimentConfig, where: Path) -> Iterator[_Source]:
    """Yield every setting of the methods that are no controls themselves."""
    for method, cell in experiment.methods.items():
        if method in CONTROLS or method == "uniform_width":
            continue
        found = method_class(method)
        for name, own in cell.settings.items():
            given = own.ratio_kind or cell.ratio_kind
            kind = given or ("auto" if found.decides_ratio else experiment.ratio_kind)
            shared = {
                "ratios": own.ratios if own.ratios is not None else cell.ratios,
                "ratio_kind": kind,
                "networks": own.networks or cell.networks,
                "seeds": own.seeds or cell.seeds,
            }
            recipes = {**cell.recipes, **own.recipes}
            fine_tune = {role: recipe for role, recipe in recipes.items() if role == FINE_TUNE}
            chosen = found(setting_options(method, cell, name, where))
            yield _Source(method, name, chosen, shared, fine_tune)


def _crossed(
    method: str, cell: MethodConfig, role: str, recipe: str, where: Path
) -> Iterator[tuple[str, SettingConfig]]:
    """Yield the settings of a method, each that trains with the role also under the recipe."""
    found = method_class(method)
    for name, own in cell.settings.items():
        yield name, own
        if role in found(setting_options(method, cell, name, where)).needed_roles():
            recipes = {**own.recipes, role: recipe}
            yield crossed_setting(name, recipe), own.model_copy(update={"recipes": recipes})


def _total_epochs(options: Iterable[MethodOptions]) -> dict[str, float]:
    """Return the option with the largest of the given total epochs, if there is one."""
    given = [one.total_epochs for one in options if one.total_epochs is not None]
    return {"total_epochs": max(given)} if given else {}
