from __future__ import annotations

from pathlib import Path

import pytest

from prunebench.core.errors import ConfigError
from prunebench.experiments.yaml_file import read_yaml

# Ten values in the first line, a billion in the last.
EXPLODING = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
)


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "x.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("seeds: [0]\nseeds: [1]\n", "x.yaml, line 2: the key 'seeds' is given twice"),
        ("methods:\n  l1: {}\n  l1: {}\n", "x.yaml, line 3: the key 'l1' is given twice"),
        ("a: [1\n", "x.yaml, line 2: not valid YAML: expected ',' or ']'"),
        ("a: b: c\n", "x.yaml, line 1: not valid YAML: mapping values are not allowed here"),
        ("a:\n\tb: 1\n", "x.yaml, line 2: not valid YAML: found character '\\t'"),
        ("a: 1\n---\nb: 2\n", "x.yaml, line 2: not valid YAML: but found another document"),
        ("a: !!python/none 1\n", "x.yaml, line 1: not valid YAML: could not determine a const"),
        ("? [a, b]\n: 1\n", "x.yaml, line 1: a key must be a name, not ['a', 'b']"),
        (b"a: \xff\n", "x.yaml: is not UTF-8 text"),
        ("a: !!bool maybe\n", "x.yaml, line 1: 'maybe' is no valid bool"),
        ("a: !!map text\n", "x.yaml, line 1: 'text' is no valid map"),
        ("a: 1\nb: 2001-99-99\n", "x.yaml, line 2: '2001-99-99' is no valid timestamp"),
        (f"a: {'1' * 5000}\n", f"x.yaml, line 1: '{'1' * 58}… is no valid int"),
        (f"a: {'[' * 5000}", "x.yaml, line 1: more than 50 levels of nesting"),
        ("a:\n- &b [*b]\n", "x.yaml, line 2: the alias *b is a part of its own value"),
        (EXPLODING, "x.yaml, line 5: more than 50000 values, counting those that aliases repeat"),
        (" " * (2**20 + 1), "x.yaml: has more than 1048576 bytes, too many for such a file"),
    ],
)
def test_a_file_that_cannot_be_read_gives_an_error_with_its_line(
    tmp_path: Path, content: str | bytes, sentence: str
) -> None:
    with pytest.raises(ConfigError) as error:
        read_yaml(written(tmp_path, content))
    assert str(error.value).startswith(f"{tmp_path}/{sentence}")
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.yaml: cannot be read \(No such file or directory"):
        read_yaml(tmp_path / "no.yaml")


def test_a_key_may_override_a_merged_key(tmp_path: Path) -> None:
    path = written(tmp_path, "a: &shared {lr: 1, epochs: 2}\nb: {<<: *shared, lr: 3}\n")
    assert read_yaml(path)["b"] == {"lr": 3, "epochs": 2}


def test_the_same_key_may_occur_in_two_mappings(tmp_path: Path) -> None:
    assert read_yaml(written(tmp_path, "a: {x: 1}\nb: {x: 2}\n")) == {"a": {"x": 1}, "b": {"x": 2}}
