from __future__ import annotations

import pytest

from prunebench.core.errors import ConfigError
from prunebench.core.names import look_up, unknown_name


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("gerg_1", "unknown method 'gerg_1'; did you mean greg_1? (allowed: greg_1, greg_2, l1)"),
        ("greg", "unknown method 'greg'; did you mean greg_2 or greg_1? (allowed: "),
        ("g", "unknown method 'g'; did you mean greg_1 or greg_2? (allowed: "),
        ("taylor", "unknown method 'taylor' (allowed: greg_1, greg_2, l1)"),
        ("", "unknown method '' (allowed: greg_1, greg_2, l1)"),
    ],
)
def test_an_unknown_name_is_told_with_the_closest_and_all_allowed(name: str, sentence: str) -> None:
    assert unknown_name("method", name, ["l1", "greg_2", "greg_1"]).startswith(sentence)


def test_where_nothing_is_allowed_the_sentence_says_none() -> None:
    assert unknown_name("recipe", "x", []) == "unknown recipe 'x' (allowed: none)"


def test_looking_up_returns_what_the_table_has() -> None:
    assert look_up("method", "l1", {"l1": 1, "l2": 2}) == 1


def test_looking_up_an_unknown_name_raises_the_sentence() -> None:
    with pytest.raises(ConfigError, match=r"^unknown method 'l3' \(allowed: l1\)$"):
        look_up("method", "l3", {"l1": 1})
