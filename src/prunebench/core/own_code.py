"""Functions of the user, named as "module:function"; modules may lie in the current folder.

In paths, and wherever a name follows from a path, a dot replaces the colon: a name with a dot is
the user's own and says where its function is.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from prunebench.core.errors import ConfigError, in_one_line, shown
from prunebench.core.module_code import code_of
from prunebench.core.names import unknown_name
from prunebench.core.plug_ins import (
    AND,
    ImportTookTooLongError,
    limited_time,
    plug_ins,
    source_of,
    with_current_folder,
    with_plug_ins,
)

OWN_NAME = r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*[:.][A-Za-z_][A-Za-z0-9_]*"


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
    if ":" not in path or re.fullmatch(OWN_NAME, path) is None:
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


def is_own(name: str) -> bool:
    """Whether a name is that of a user's function, with a dot or a colon before the function.

    >>> is_own("mypkg.nets:make"), is_own("mypkg.nets.make"), is_own("resnet20"), is_own("../a.b")
    (True, True, False, False)
    """
    return re.fullmatch(OWN_NAME, name) is not None


def name_in_paths(name: str) -> str:
    """Return a name as in paths.

    >>> name_in_paths("mypkg.nets:make"), name_in_paths("resnet20")
    ('mypkg.nets.make', 'resnet20')
    """
    return name.replace(":", ".")


def import_path(name: str) -> str:
    """Return "module:function" of a name of the user's own, as in paths or not.

    >>> import_path("mypkg.nets.make"), import_path("mypkg.nets:make")
    ('mypkg.nets:make', 'mypkg.nets:make')
    """
    module, _, function = name_in_paths(name).rpartition(".")
    return f"{module}:{function}"


def path_of_name(name: str, group: str) -> str | None:
    """Return "module:name" of a user's own function or of a plug-in of an entry-point group.

    None for other names, and for one that is registered twice.
    """
    if is_own(name):
        return import_path(name)
    path = with_plug_ins({}, plug_ins(group)).get(name)
    return None if path is None or AND in path else path


def code_of_name(name: str, group: str) -> str | None:
    """Return `own_code` of a user's own function or of a plug-in; None for other names."""
    path = path_of_name(name, group)
    return None if path is None else own_code(path)


def own_code(path: str) -> str | None:
    """Return a hash of the code behind "module:name"; None without its source.

    It covers the module and those that it imports, directly or not, from its own package or the
    current folder. No module is imported.
    """
    with_current_folder()
    module = path.partition(":")[0]
    try:
        return code_of((module,), partial(_is_the_users, module.partition(".")[0]))[:16]
    except (OSError, SyntaxError):
        return None


def _is_the_users(package: str, module: str) -> bool:
    """Whether a module belongs to the package, or to the current folder."""
    file, top = source_of(module), module.partition(".")[0]
    if file is None or top == "prunebench":
        return False
    is_here = file.is_relative_to(Path.cwd()) and "site-packages" not in file.parts
    return top == package or is_here


def call_with_known(
    function: Callable[..., Any],
    path: str,
    what: str,
    known: Mapping[str, Any],
    needed: Collection[str],
) -> Any:
    """Call a function with those of the `known` keyword arguments that it takes.

    Raises ConfigError as `taken_arguments` does.

    >>> call_with_known(lambda classes: classes, "a:b", "network", {"classes": 2, "side": 8}, ())
    2
    """
    names = taken_arguments(function, path, what, known, needed)
    return function(**{name: known[name] for name in names})


def taken_arguments(
    function: Callable[..., Any],
    path: str,
    what: str,
    known: Collection[str],
    needed: Collection[str],
) -> list[str]:
    """Return the names among `known` of the arguments that a function takes by keyword.

    ConfigError if it takes no argument of a name in `needed`, or requires one that is not known.
    """
    parameters = inspect.signature(function).parameters.values()
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    by_name = [p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [
        p.name
        for p in parameters
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    given = list(known) if takes_any else [name for name in by_name if name in known]
    for name in required:
        if name not in given:
            raise ConfigError(
                f"{what} {path}: the argument {name!r} has no default; the function is called "
                f"with {' and '.join(known)}"
            )
    for name in needed:
        if name not in given:
            raise ConfigError(f"{what} {path}: the function takes no argument {name!r}")
    return given
