"""prunebench: a benchmark of CNN pruning.

The public names are imported on first use, so that importing prunebench imports no torch:

- `prune(model, example, ratio=...)`: any network with fewer channels, a `Pruned` that proves it.
- `finetune(model, loader, epochs=...)`: training by the loop of experiments, on any loader.
- `sensitivity(model, example, evaluate=...)`: accuracy against ratio, group by group.
- `load(folder)`: a pruned network of a finished run or of `Pruned.save`, an ordinary `nn.Module`.
- `build(name, num_classes=...)`: one of the benchmark's networks.
- `trace(model, example)`: the groups of coupled channels of any network.
- `mask(model, graph, units)`, `remove(model, graph, units)`: silence units, or remove them.
- `verify(model, example)`: check that masked and smaller networks agree, group by group.

`prunebench.testing` runs a method on a toy network; the command `prunebench` runs the stages.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prunebench.channels.groups import ChannelGraph, ChannelGroup
    from prunebench.channels.removal import mask, remove
    from prunebench.channels.trace.tracer import trace
    from prunebench.channels.verify import verify
    from prunebench.models.registry import build
    from prunebench.own_network.finetune import finetune
    from prunebench.own_network.prune import prune
    from prunebench.own_network.pruned import Pruned
    from prunebench.own_network.pruned_files import load
    from prunebench.own_network.sensitivity import Sensitivity, sensitivity

__version__ = "0.1.0"
__all__ = [
    "ChannelGraph",
    "ChannelGroup",
    "Pruned",
    "Sensitivity",
    "__version__",
    "build",
    "finetune",
    "load",
    "mask",
    "prune",
    "remove",
    "sensitivity",
    "trace",
    "verify",
]

_MODULES = {
    "ChannelGraph": "prunebench.channels.groups:ChannelGraph",
    "ChannelGroup": "prunebench.channels.groups:ChannelGroup",
    "Pruned": "prunebench.own_network.pruned:Pruned",
    "Sensitivity": "prunebench.own_network.sensitivity:Sensitivity",
    "build": "prunebench.models.registry:build",
    "finetune": "prunebench.own_network.finetune:finetune",
    "load": "prunebench.own_network.pruned_files:load",
    "mask": "prunebench.channels.removal:mask",
    "prune": "prunebench.own_network.prune:prune",
    "remove": "prunebench.channels.removal:remove",
    "sensitivity": "prunebench.own_network.sensitivity:sensitivity",
    "trace": "prunebench.channels.trace.tracer:trace",
    "verify": "prunebench.channels.verify:verify",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module 'prunebench' has no attribute {name!r}")
    module, _, attribute = _MODULES[name].partition(":")
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return __all__
