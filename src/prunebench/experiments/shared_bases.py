"""Base networks that several results folders share, so that one of them trains and all have them.

A shared folder has a folder for each base network, named by the hash of its specification, with the
files that training wrote. Users of the folder only read it. A network is copied into a results
folder, since a link would break with the shared folder; its training.json still says when, where
and by which code it was trained.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from uuid import uuid4

from prunebench.core.errors import ConfigError, ResultError, cannot
from prunebench.core.files import file_hash, make_folder, replacing
from prunebench.experiments.results import TRAINED_FILES, TrainingResult
from prunebench.experiments.reuse import data_hash
from prunebench.experiments.spec import BaseSpec
from prunebench.experiments.stored_spec import recorded_spec, stored_spec


def shared_base(shared: Path, spec: BaseSpec, data: Path) -> Path | None:
    """Return the folder of a shared base network; None if there is none of this specification.

    ConfigError without the shared folder. ResultError if a file of the network is missing or
    damaged, or if it was trained with other data than those of the file `data`.
    """
    if not _is_folder(shared):
        raise ConfigError(f"shared_bases: {shared}: no such folder")
    entry = shared / spec.hash
    if not _is_folder(entry):
        return None
    training, here = _checked(entry, spec), data_hash(data)
    if training.data_sha256 != here:
        raise ResultError(
            f"{entry}: trained with the data {training.data_sha256:.12}, and {data} has "
            f"{here or 'none':.12}"
        )
    return entry


def take_base(entry: Path, spec: BaseSpec, folder: Path) -> None:
    """Copy a shared base network to its folder of results; training.json comes last.

    Equal specifications may have recipes of other names: the copy records the name here.
    """
    for name in TRAINED_FILES:
        with replacing(folder / name) as temporary:
            shutil.copyfile(entry / name, temporary)
    training = TrainingResult.read(entry, spec.hash)
    training.model_copy(update={"spec": spec.model_dump(mode="json")}).write(folder)


def share_base(folder: Path, shared: Path) -> str:
    """Copy a base network of a results folder to a shared folder; return what was done, in words.

    It appears whole or not at all, and replaces no other one. ResultError if it is damaged or no
    base network, or if another network of its specification is shared.
    """
    spec, _ = stored_spec(folder)
    if not isinstance(spec, BaseSpec):
        raise ResultError(f"{folder}: a run; only base networks can be shared")
    training, entry = _checked(folder, spec), shared / spec.hash
    if not entry.exists():
        make_folder(shared)
        temporary = shared / f".{spec.hash}.{uuid4().hex}"
        try:
            _copy(folder, temporary)
            _checked(temporary, spec)
            temporary.rename(entry)
            return f"{spec.path} · shared as {entry}"
        except OSError as error:
            if not entry.exists():  # by another process
                raise ResultError(f"{entry}: {cannot('be written', error)}") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    other = _checked(entry, spec).weights_sha256
    if other != training.weights_sha256:
        raise ResultError(
            f"{entry}: holds another network of this specification (weights {other:.8}, and "
            f"{training.weights_sha256:.8} in {folder}); a shared network is never replaced"
        )
    return f"{spec.path} · shared already as {entry}"


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as error:
        raise ResultError(f"{path}: {cannot('be read', error)}") from None


def _checked(folder: Path, spec: BaseSpec) -> TrainingResult:
    """Return the result in a folder; ResultError unless every file is as training recorded it."""
    training = TrainingResult.read(folder, spec.hash)
    recorded_spec(training, folder)
    if training.files is None or set(training.files) != set(TRAINED_FILES):
        raise ResultError(
            f"{folder / TrainingResult.FILE}: files does not name {', '.join(TRAINED_FILES)}; an "
            "earlier version trained this network: train it again"
        )
    for name, expected in training.files.items():
        if (found := file_hash(folder / name)) != expected:
            raise ResultError(
                f"{folder / name}: SHA-256 is {found}, expected {expected} as in "
                f"{TrainingResult.FILE}; the file is damaged"
            )
    return training


def _copy(folder: Path, to: Path) -> None:
    """Copy the files of a base network to a new folder, with the modes of new files."""
    to.mkdir()
    for name in (*TRAINED_FILES, TrainingResult.FILE):
        shutil.copyfile(folder / name, to / name)
        with (to / name).open("rb+") as file:
            os.fsync(file.fileno())
