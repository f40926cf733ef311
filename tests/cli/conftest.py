"""A small configuration that tests change: stripes, a narrow ResNet-20, recipes of one epoch."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from prunebench.__main__ import main
from prunebench.data.dataset import prepare

EXPERIMENT: dict[str, Any] = {
    "title": "Stripes",
    "datasets": ["synthetic"],
    "networks": {"resnet20_x0_25": {}},
    "seeds": [0],
    "ratios": [0.5],
    "recipes": {"base": "one_epoch", "fine_tune": "one_epoch"},
    "methods": {"unpruned": {}, "l1": {}},
}
# of `finished`
BASE = Path("results/base/synthetic/resnet20_x0_25/one_epoch/seed0")
L1 = Path("results/tiny/synthetic/resnet20_x0_25/l1/default/0.5/seed0")
COLUMNS = Path("results/tiny/synthetic/resnet20_x0_25/l1_columns/default/0.5/seed0")
RECIPE = {"epochs": 1, "batch_size": 64, "lr": 0.1, "weight_decay": 0.0}

WriteConfig = Callable[..., Path]


def write_yaml(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


@pytest.fixture
def write_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteConfig:
    """Write config/ into an empty working folder, with `changed` keys of the experiment `tiny`.

    `files` are further YAML files, by their paths below config/.
    """
    monkeypatch.chdir(tmp_path)

    def write(changed: dict[str, Any] | None = None, files: dict[str, Any] | None = None) -> Path:
        write_yaml(Path("config/config.yaml"), {"experiments": ["tiny"]})
        write_yaml(Path("config/recipes/one_epoch.yaml"), RECIPE)
        write_yaml(Path("config/experiments/tiny.yaml"), EXPERIMENT | (changed or {}))
        for name, content in (files or {}).items():
            write_yaml(Path("config") / name, content)
        return Path("config")

    return write


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command line in this process; return exit code, output and errors."""

    def run(*arguments: str) -> tuple[Any, str, str]:
        monkeypatch.setattr(sys, "argv", ["prunebench", *arguments])
        with pytest.raises(SystemExit) as exit_:
            main()
        out, err = capsys.readouterr()
        # Python itself prints the words that it is left with, and ends with 1.
        code = exit_.value.code
        return (1, out, f"{err}{code}\n") if isinstance(code, str) else (code or 0, out, err)

    return run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base network and two measured runs, one of them with masked weights."""
    folder = tmp_path_factory.mktemp("finished")
    methods = {"l1": {}, "l1_columns": {}}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_yaml(Path("config/config.yaml"), {"experiments": ["tiny"]})
        write_yaml(Path("config/recipes/one_epoch.yaml"), RECIPE)
        write_yaml(Path("config/experiments/tiny.yaml"), {**EXPERIMENT, "methods": methods})
        prepare("synthetic", Path("data"), Path("results/data/synthetic.safetensors"))
        base = "base --dataset synthetic --architecture resnet20_x0_25 --recipe one_epoch"
        for line in (base, "prune --method l1", "prune --method l1_columns", "measure --only cost"):
            patch.setattr("sys.argv", ["prunebench", *line.split()])
            with pytest.raises(SystemExit) as end:
                main()
            assert not end.value.code
    return folder


@pytest.fixture
def workplace(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder to change, as working folder."""
    shutil.copytree(finished, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"
