"""Cost of a method's step relative to a plain step of the same network, in one process.

    python benchmarks/method_steps.py --networks resnet20 --batch-size 64

Methods, options and recipes are those of the experiment digits_full; measured is the first phase
that has hooks within its steps. What happens between steps (a decision every k steps, an epoch's
end) is not part of it. Images are random, 32x32 in three colours.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from training_speed import AUGMENT, Ours, make_run, ratios

from prunebench.experiments.recipe import Recipe
from prunebench.experiments.spec import RunSpec
from prunebench.measure.cuda_graphs import CudaGraphs
from prunebench.methods.registry import method_class
from prunebench.planning.grid import resolve_experiment
from prunebench.training.cuda import PhaseStep
from prunebench.training.processes import Network

STEP_HOOKS = frozenset({"loss_term", "before_optimizer_step", "after_optimizer_step"})


class WithMethod(Ours):
    """Steps of a method's first phase."""

    def __init__(self, spec: RunSpec, network: str, recipe: Recipe, device: torch.device) -> None:
        found = method_class(spec.method)
        self.method = found(found.Options.model_validate(spec.options))
        same = {"batch_size": recipe.batch_size, "augment": recipe.augment}
        recipes = {role: own.model_copy(update=same) for role, own in spec.recipes.items()}
        phases = tuple(self.method.phases(recipes, spec.budget))
        run = make_run(network, 4 * recipe.batch_size, recipe, device)
        run.dataset = replace(run.dataset, val=run.dataset.test)  # some look at it first
        super().__init__(run, phases[0].recipe or recipe)
        run.phases = phases
        run.go_to(0)
        self.method.before_phase(run)
        self.handles = self.method.attach(run) if "attach" in run.phase.hooks else []
        recorder = CudaGraphs(device) if device.type == "cuda" else None
        self.step = PhaseStep(run, self.method, self.optimizer, Network(run.model), recorder)


def step_hooks(spec: RunSpec) -> frozenset[str]:
    """Return the hooks within the steps of a method's first phase."""
    found = method_class(spec.method)
    phases = found(found.Options.model_validate(spec.options)).phases(spec.recipes, spec.budget)
    return STEP_HOOKS & phases[0].hooks if phases else frozenset()


def main() -> None:
    """Print a line per method and network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=["resnet20"])
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.set_num_threads(1)
    specs = resolve_experiment("digits_full", Path("config"))
    mine = {s.method: s for s in reversed(specs) if s.architecture == "resnet20"}
    print("| network | method | plain step, s | its step, s | ratio |\n|---|---|---|---|---|")
    for network in options.networks:
        for name, spec in sorted(mine.items()):
            if not step_hooks(spec):
                continue
            recipe = Recipe(
                batch_size=options.batch_size, lr=0.01, weight_decay=5e-4, augment=AUGMENT
            )
            plain = Ours(make_run(network, 4 * options.batch_size, recipe, device), recipe)
            theirs = WithMethod(spec, network, recipe, device)
            for one in (plain, theirs):
                one.draw()
            found = ratios(
                device,
                lambda: plain.train(1),  # noqa: B023
                lambda: theirs.train(1),  # noqa: B023
                options.repeats,
            )
            cells = [network, name, f"{found[0]:.4f}", f"{found[1]:.4f}", f"{1 / found[2]:.2f}"]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
