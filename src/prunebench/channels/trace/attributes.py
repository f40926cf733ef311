"""Numbers of channels that modules of the network's own code store in attributes.

`F.conv2d(x, self.filters, groups=self.channels)` still works after a removal if the attribute is
corrected. That is right only if the code uses the attribute for nothing else; so while the network
runs, such attributes are numbers that notice their uses, as far as Python tells of them (see
`ChannelCount`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from torch import nn

from prunebench.channels.trace.ids import Ints
from prunebench.channels.trace.passes import Pass

CONTAINERS = (nn.Module, nn.Sequential, nn.ModuleList, nn.ModuleDict)
# Methods of numbers, without the underscores, to the operation in messages.
COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
CALCULATIONS = COMPARISONS | {
    "truediv": "/", "rtruediv": "/", "rfloordiv": "//", "rmod": "%", "rsub": "-", "pow": "**",
    "rpow": "**", "divmod": "divmod", "rdivmod": "divmod", "neg": "-", "invert": "~",
    "lshift": "<<", "rlshift": "<<", "rshift": ">>", "rrshift": ">>", "and": "&", "rand": "&",
    "or": "|", "ror": "|", "xor": "^", "rxor": "^", "int": "int", "float": "float",
    "round": "round", "abs": "abs", "pos": "+", "trunc": "trunc", "floor": "floor", "ceil": "ceil",
}  # fmt: skip
PROPORTIONAL = {"add": "+", "radd": "+", "sub": "-", "mul": "*", "rmul": "*", "floordiv": "//",
                "mod": "%"}  # fmt: skip


class StoredNumber(int):
    """An attribute that may be a number of channels; every other use of it is noticed."""

    state: Pass
    place: tuple[str, str]

    def __new__(cls, number: int, state: Pass, path: str, attribute: str) -> Self:
        """Return the number with the place where it is stored."""
        stored = super().__new__(cls, number)
        stored.state, stored.place = state, (path, attribute)
        return stored

    def __reduce__(self) -> tuple[Any, ...]:
        return int, (int.__int__(self),)

    def __deepcopy__(self, memo: Any) -> Self:
        return self

    __hash__ = int.__hash__

    def channels(self) -> Ints:
        """Return ids of the channels, which removal counts for the attribute."""
        return self.state.stored(*self.place, int.__int__(self))

    def use(self, operation: str) -> None:
        """Record a use for something else than a number of channels."""
        self.state.used_attributes.setdefault(self.place, operation)


def calculation(name: str, operation: str) -> Callable[..., Any]:
    """Return a method of `StoredNumber` that calculates with the plain number."""
    function = getattr(int, f"__{name}__")

    def method(self: StoredNumber, *others: Any) -> Any:
        if any(isinstance(n, int) and hasattr(n, "of") for n in others):
            return NotImplemented  # left to the `ChannelCount`, which notices its own uses
        for number in (self, *others):
            if isinstance(number, StoredNumber):
                number.use(operation)
        return function(int.__int__(self), *others)

    return method


for name, symbol in (CALCULATIONS | PROPORTIONAL).items():
    setattr(StoredNumber, f"__{name}__", calculation(name, symbol))


def hand_out(model: nn.Module, state: Pass) -> None:
    """Replace attributes by numbers that notice their uses; `untouched` puts the old ones back.

    Only attributes of the network's own modules that are as large as a dimension of a parameter or
    buffer are replaced; those of PyTorch's layers are corrected by their tensors.
    """
    sizes = {n for tensor in state.tensors for n in tensor.shape if n > 1}
    modules = list(model.named_modules())
    own = {kind for kind in {type(module) for _, module in modules} if is_own(kind)}
    for path, module in modules:
        if type(module) in own:
            attributes = vars(module)
            for name, value in attributes.items():
                if type(value) is int and value in sizes:
                    attributes[name] = StoredNumber(value, state, path, name)


def is_own(kind: type[nn.Module]) -> bool:
    """Whether a module derives from none of PyTorch's layers."""
    return all(
        base in CONTAINERS or base is object or not base.__module__.startswith("torch.")
        for base in kind.__mro__
    )
