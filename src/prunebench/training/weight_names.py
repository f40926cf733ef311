"""Match the names of weights in a file of another project with those of our network.

Names are compared in a common form first: without the prefixes `module.` and `model.`, with
`layer1.` as `stages.0.`, `downsample` as `shortcut`, and the last linear layer (`linear`, `fc` or
`classifier`) as one. Remaining tensors are matched by shape and kind (weight, bias, running mean
...): in order, if the file keeps the order of definition, else only if shape and kind are unique.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

Shape = tuple[int, ...]
UNUSED = "num_batches_tracked"  # files older than PyTorch 0.4.1 have none, and nothing needs it


def common_form(name: str) -> str:
    """Return the form of a name in which other projects and we agree.

    >>> common_form("module.layer2.0.downsample.0.weight"), common_form("linear.bias")
    ('stages.1.0.shortcut.0.weight', 'head.bias')
    """
    while found := re.match(r"(module|model)\.", name):
        name = name[found.end() :]
    name = re.sub(r"^layer(\d+)\.", lambda match: f"stages.{int(match[1]) - 1}.", name)
    name = name.replace(".downsample.", ".shortcut.")
    return re.sub(r"^(linear|fc|classifier)\.(weight|bias)$", r"head.\2", name)


def match_names(
    theirs: Mapping[str, Shape], own: Mapping[str, Shape], *, is_ordered: bool
) -> dict[str, str]:
    """Return our name of each of their tensors; `num_batches_tracked` is left out.

    Parameters
    ----------
    theirs, own
        Shapes by name, in the order of the file and of our network.
    is_ordered
        Whether the file keeps the order in which layers are defined.

    Raises
    ------
    ValueError
        If a tensor has no partner or several possible ones; the message lists both sides.
    """
    theirs = {name: shape for name, shape in theirs.items() if not name.endswith(UNUSED)}
    own = {name: shape for name, shape in own.items() if not name.endswith(UNUSED)}
    by_form = _unique({name: common_form(name) for name in own})
    found = {
        name: by_form[form]
        for form, name in _unique({name: common_form(name) for name in theirs}).items()
        if form in by_form and theirs[name] == own[by_form[form]]
    }
    left = [name for name in theirs if name not in found]
    missing = [name for name in own if name not in found.values()]
    kinds_left = [(theirs[name], name.rpartition(".")[2]) for name in left]
    kinds_missing = [(own[name], name.rpartition(".")[2]) for name in missing]
    is_unique = max(Counter(kinds_missing).values(), default=1) == 1
    if is_unique and sorted(kinds_left) == sorted(kinds_missing):
        places = {kind: name for kind, name in zip(kinds_missing, missing, strict=True)}
        return found | {name: places[kind] for name, kind in zip(left, kinds_left, strict=True)}
    if is_ordered and kinds_left == kinds_missing:
        return found | dict(zip(left, missing, strict=True))
    raise ValueError(
        f"unmatched in the file: {_listed(left, theirs)}; unmatched in the network: "
        f"{_listed(missing, own)}"
    )


def _unique(forms: Mapping[str, str]) -> dict[str, str]:
    """Return the name of each form that only one name has."""
    counts = Counter(forms.values())
    return {form: name for name, form in forms.items() if counts[form] == 1}


def _listed(names: list[str], shapes: Mapping[str, Shape]) -> str:
    shown = [f"{name} {'×'.join(map(str, shapes[name])) or 'scalar'}" for name in names[:8]]
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return (", ".join(shown) or "nothing") + more
