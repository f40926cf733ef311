"""Write a new method from the templates, in a checkout of the package or beside a user's files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from prunebench import templates
from prunebench.core.errors import ConfigError
from prunebench.core.files import read_bytes, write_text
from prunebench.core.plug_ins import OWN_FILE, plug_ins
from prunebench.experiments.settings import ALLOWED, is_name
from prunebench.methods.registry import method_paths

TEMPLATES = Path(str(templates.__file__)).parent
PACKAGE = Path("src/prunebench")


@dataclass(frozen=True)
class Kind:
    """A criterion or a method that trains.

    Attributes
    ----------
    folder, table
        Folder of the package, and the name of the dictionary in its registry.
    recipes
        Recipes of the roles beside fine_tune, in the example of an experiment.
    """

    template: str
    folder: str
    table: str
    row: str


CRITERION = Kind("template_criterion", "criteria", "CRITERIA", "{}")
METHOD = Kind("template_method", "methods", "METHODS", "{recipes: {regularize: digits_regularize}}")


def write_method(name: str, here: Path, *, is_training: bool) -> Iterator[str]:
    """Write the files of a method below the folder `here`, and yield what was done and what next.

    ConfigError for a name that is invalid or taken, and if a file is there already.
    """
    kind = METHOD if is_training else CRITERION
    in_package = (here / PACKAGE / kind.folder / "registry.py").is_file()
    _check_name(name, in_package)
    if in_package:
        module, test = f"prunebench.{kind.folder}.{name}", f"tests/{kind.folder}/test_{name}.py"
        source = str(PACKAGE / kind.folder / f"{name}.py")
    else:
        module, source, test = name, f"{name}.py", f"test_{name}.py"
    for file in (source, test):
        if (here / file).exists():
            raise ConfigError(f"{here / file}: there is such a file already; choose another name")
    class_name = "".join(word.capitalize() for word in name.split("_"))
    for file, template in ((source, kind.template), (test, f"test_{kind.template}")):
        text = (TEMPLATES / f"{template}.py").read_text(encoding="utf-8")
        write_text(here / file, _filled(text, kind, name, class_name, module))
        yield f"{here / file}: written"
    path = f"{module}:{class_name}"
    registered = (
        _in_registry(here / PACKAGE / kind.folder / "registry.py", kind.table, name, path)
        if in_package
        else _in_own_file(here / OWN_FILE, kind.folder, name, path)
    )
    yield f"{registered}: {name} is registered"
    yield f"Test it: pytest {here / test}"
    yield "Its line in an experiment, such as config/experiments/quick.yaml:"
    yield "methods:"
    yield f"  {name}: {kind.row}"


def _check_name(name: str, in_package: bool) -> None:
    if not is_name(name):
        raise ConfigError(f"{name!r} is not a valid name ({ALLOWED})")
    if (path := method_paths().get(name)) is not None:
        raise ConfigError(f"the method {name!r} exists already: {path}; choose another name")
    if not in_package and find_spec(name) is not None:
        raise ConfigError(f"{name!r} is the name of a module that is installed; choose another one")


def _filled(text: str, kind: Kind, name: str, class_name: str, module: str) -> str:
    """Return a template with the name of the method, its class and its module."""
    template_class = "".join(word.capitalize() for word in kind.template.split("_"))
    text = text.replace(f"prunebench.templates.{kind.template}", module)
    text = text.replace("TemplateOptions", f"{class_name}Options")
    text = text.replace(template_class, class_name).replace(kind.template, name)
    return _with_sorted_imports(text.replace('"""NAME:', f'"""{name}:'))


def _with_sorted_imports(text: str) -> str:
    """Return a module with its imports from prunebench in order, as the checks require."""
    lines = text.splitlines(keepends=True)
    own = [i for i, line in enumerate(lines) if line.startswith("from prunebench.")]
    for i, line in zip(own, sorted((lines[i] for i in own), key=str.split), strict=True):
        lines[i] = line
    return "".join(lines)


def _in_registry(file: Path, table: str, name: str, path: str) -> Path:
    """Add a line to a registry's dictionary, in alphabetical order."""
    text = read_bytes(file).decode()
    found = re.search(rf"^{table} = {{\n((?:    .*\n)*)}}\n", text, flags=re.MULTILINE)
    if found is None:
        raise ConfigError(f"{file}: it has no dictionary {table}")
    lines = sorted([*found[1].splitlines(keepends=True), f'    "{name}": "{path}",\n'])
    write_text(file, text[: found.start(1)] + "".join(lines) + text[found.end(1) :])
    return file


def _in_own_file(file: Path, section: str, name: str, path: str) -> Path:
    """Add a line to a section of prunebench.toml."""
    text = read_bytes(file).decode() if file.exists() else ""
    header, line = f"[{section}]\n", f'{name} = "{path}"\n'
    if header in text:
        text = text.replace(header, header + line, 1)
    else:
        text += ("\n" if text else "") + header + line
    write_text(file, text)
    plug_ins.cache_clear()
    return file
