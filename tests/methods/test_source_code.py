"""The hash of a method's code changes with the code, and with nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from prunebench.core import module_code, plug_ins
from prunebench.core.module_code import code_of, read_module
from prunebench.criteria.registry import CRITERIA
from prunebench.methods.registry import METHODS
from prunebench.methods.source_code import method_code


def test_every_method_has_a_hash_without_importing_torch() -> None:
    code = (
        "import sys; from prunebench.methods.source_code import method_code as h\n"
        "from prunebench.methods.registry import method_paths\n"
        "assert all(len(h(name, {})) == 64 for name in method_paths())\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert method_code("no_such_method", {}) is None


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with copies of the package's methods and criteria, which are hashed instead."""
    original = plug_ins.source_of

    def copied(module: str) -> Path | None:
        found = original.__wrapped__(module)
        if found is None or "prunebench" not in module:
            return found
        copy = tmp_path / f"{module}.py"
        if not copy.exists():
            copy.write_bytes(found.read_bytes())
        return copy

    monkeypatch.setattr(module_code, "source_of", copied)
    yield tmp_path
    forget()


def forget() -> None:
    read_module.cache_clear()
    code_of.cache_clear()


def hashes() -> dict[str, str | None]:
    forget()
    return {name: method_code(name, {}) for name in (*METHODS, *CRITERIA)}


def changed(package: Path, module: str, before: str, after: str) -> set[str]:
    """Return the methods whose hash changes if a module's text does."""
    earlier = hashes()
    file = package / f"{module}.py"
    text = file.read_text(encoding="utf-8")
    assert before in text
    file.write_text(text.replace(before, after), encoding="utf-8")
    return {name for name, code in hashes().items() if code != earlier[name]}


def test_an_edit_of_the_class_changes_the_methods_of_its_module(package: Path) -> None:
    found = changed(package, "prunebench.methods.greg", "clamp_min(1e-30)", "clamp_min(1e-20)")
    assert found == {"fixreg", "greg_1", "greg_2"}


def test_an_edit_of_an_imported_module_changes_the_method(package: Path) -> None:
    module = "prunebench.methods.increg.formulas"
    assert changed(package, module, "math.log(3)", "math.log(4)") == {"increg", "increg_accuracy"}


def test_a_criterion_has_its_own_code_and_that_of_one_shot_pruning(package: Path) -> None:
    module = "prunebench.criteria.random"
    assert changed(package, module, "torch.rand(", "torch.randn(") == {"random"}
    text = "prunebench.methods.one_shot"
    assert set(CRITERIA) <= changed(package, text, "class ", "class Other")


def test_the_chosen_criterion_belongs_to_the_code(package: Path) -> None:
    options = {"criterion": {"random": {}}}
    before = method_code("orthoreg", options), method_code("orthoreg", {"criterion": "l1"})
    changed(package, "prunebench.criteria.random", "torch.rand(", "torch.randn(")
    forget()
    after = method_code("orthoreg", options), method_code("orthoreg", {"criterion": "l1"})
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_comments_docstrings_and_layout_do_not_count(package: Path) -> None:
    hashes()
    file = package / "prunebench.methods.greg.py"
    text = file.read_text(encoding="utf-8")
    assert '"""' in text
    earlier = hashes()
    file.write_text(text.replace('"""', '"""Or ', 1) + "\n\n# the end\n", encoding="utf-8")
    assert hashes() == earlier
