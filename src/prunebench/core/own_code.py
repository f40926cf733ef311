"""Functions of the user, named as "module:function"; modules may lie in the current folder."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from prunebench.core.errors import ConfigError, in_one_line, shown
from prunebench.core.names import unknown_name
from prunebench.core.plug_ins import ImportTookTooLongError, limited_time

_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def own_function(path: str, what: str) -> Callable[..., Any]:
    """Import the function or class that "module:function" names.

    `what` says in errors what it is for: "network", "data". A module may lie in the current
    folder. ConfigError in one line if `path` has another form, if its import fails or takes more
    than 30 seconds (PRUNEBENCH_PLUG_IN_SECONDS), and if it is not callable.

    >>> own_function("json:loads", "data")("[1]")
    [1]
    """
    found = own_object(path, what)
    if not callable(found):
        raise ConfigError(f"{what} {path}: {shown(found)} is no function")
    return found  # type: ignore[no-any-return]


def own_object(path: str, what: str) -> Any:
    """Import the object that "module:name" names, as `own_function` does."""
    if _PATH.fullmatch(path) is None:
        raise ConfigError(f"{what} {shown(path)}: not of the form module:function")
    module_name, _, name = path.partition(":")
    with_current_folder()
    try:
        with limited_time():
            module = import_module(module_name)
    except ModuleNotFoundError as error:
        is_its_own = f"{module_name}.".startswith(f"{error.name}.")
        of = "" if is_its_own else f", which {module_name} imports"
        raise ConfigError(
            f"{what} {path}: no module {error.name!r}{of}; modules of the current folder "
            f"({Path.cwd()}) and installed ones can be imported"
        ) from error
    except (Exception, SystemExit, ImportTookTooLongError) as error:
        problem = "it exits" if isinstance(error, SystemExit) else in_one_line(error)
        raise ConfigError(f"{what} {path}: {module_name} cannot be imported: {problem}") from error
    if not hasattr(module, name):
        known = [other for other in vars(module) if not other.startswith("_")]
        raise ConfigError(f"{what} {path}: {unknown_name(f'name in {module_name}', name, known)}")
    return getattr(module, name)


def with_current_folder() -> None:
    """Let modules of the current folder be imported, as `python -m` does."""
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)


def call_with_known(
    function: Callable[..., Any], path: str, what: str, known: dict[str, Any], needed: set[str]
) -> Any:
    """Call a function with those of the `known` keyword arguments that it takes.

    ConfigError if it takes no argument of a name in `needed`, or requires one that is not known.

    >>> call_with_known(lambda classes: classes, "a:b", "network", {"classes": 2, "side": 8}, set())
    2
    """
    parameters = inspect.signature(function).parameters.values()
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    by_name = [p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [
        p.name
        for p in parameters
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    given = known if takes_any else {name: known[name] for name in by_name if name in known}
    for name in required:
        if name not in given:
            raise ConfigError(
                f"{what} {path}: the argument {name!r} has no default; it is called with "
                f"{' and '.join(known)}"
            )
    for name in sorted(needed - given.keys()):
        raise ConfigError(f"{what} {path}: it takes no argument {name!r}")
    return function(**given)
