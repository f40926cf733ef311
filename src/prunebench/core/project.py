"""The files that a study starts from: Snakefile, rules, configuration and profiles.

The repository has one copy of them, at its top. A wheel carries that copy inside of the package
(`force-include` in pyproject.toml); an editable installation reads it where it lies.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from prunebench.core.errors import ConfigError

PARTS = (
    "Snakefile",
    "config",
    "environment.yml",
    "profiles/default",
    "profiles/slurm",
    "workflow",
)
TOP = tuple(dict.fromkeys(part.partition("/")[0] for part in PARTS))
PACKAGE = Path(__file__).parents[1]


def project_source() -> Path:
    """Return the folder that holds the installed files."""
    installed = PACKAGE / "project"
    return installed if installed.is_dir() else PACKAGE.parents[1]


def write_project(folder: Path, version: str) -> list[Path]:
    """Write the files into a folder, which is made if needed, all or none; return their paths.

    environment.yml installs this version of the package in place of the checkout around it.
    ConfigError if the folder holds one of them, or if the installation lacks them.
    """
    _check(folder)
    source = project_source()
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".init-") as scratch:
        for part in PARTS:
            _copy(source / part, Path(scratch) / part)
        environment = Path(scratch) / "environment.yml"
        text = environment.read_text(encoding="utf-8")
        environment.write_text(text.replace("- -e .", f"- prunebench=={version}"), encoding="utf-8")
        return [(Path(scratch) / name).rename(folder / name) for name in TOP]


def _check(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: is a file; name a new folder")
    # A broken link is in the way, too.
    there = [name for name in TOP if (folder / name).exists() or (folder / name).is_symlink()]
    if there:
        raise ConfigError(f"{folder}: already has {', '.join(there)}; name another folder")
    source = project_source()
    missing = [part for part in PARTS if not (source / part).exists()]
    if missing:
        raise ConfigError(f"{source}: has no {', '.join(missing)}; install prunebench again")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copyfile(source, target)
