from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import Field

from prunebench.core.errors import ConfigError
from prunebench.experiments.reference import Option, options_of, table, with_tables
from prunebench.experiments.settings import NonNegative, Settings


class Inner(Settings):
    size: int = Field(3, description="Side in pixels.")


class Outer(Settings):
    lr: Annotated[float, Field(gt=0, le=1)] = Field(description="Learning rate.")
    kind: Literal["a", "b"] | None = Field("a", description="Kind, `a` | `b`.")
    inner: Inner = Field(Inner(), description="Inner settings.")
    pairs: tuple[NonNegative, NonNegative] | None = Field(None, description="Range.")
    by_name: dict[str, Inner] = Field({"x": Inner(size=4)}, description="Settings by name.")


def test_options_are_described_in_words() -> None:
    assert options_of(Outer) == [
        Option("lr", "number in (0, 1]", "required", "Learning rate."),
        Option("kind", "`a`, `b` or `null`", "a", "Kind, `a` | `b`."),
        Option("inner", "inner", "{}", "Inner settings."),
        Option("pairs", "list of 2 numbers ≥ 0", "null", "Range."),
        Option("by_name", "mapping to inners", "{x: {size: 4}}", "Settings by name."),
    ]


def test_a_new_default_keeps_the_description_of_the_inherited_option() -> None:
    class Other(Inner):
        size: int = 5

    class Own(Inner):
        size: int = Field(5, description="Side in inches.")

    assert options_of(Other) == [Option("size", "integer", "5", "Side in pixels.")]
    assert options_of(Own) == [Option("size", "integer", "5", "Side in inches.")]


def test_a_table_has_a_row_for_each_option_and_escapes_bars() -> None:
    assert table(Outer).splitlines()[:4] == [
        "| key | default | values | meaning |",
        "| --- | --- | --- | --- |",
        "| `lr` | required | number in (0, 1] | Learning rate. |",
        "| `kind` | `a` | `a`, `b` or `null` | Kind, `a` \\| `b`. |",
    ]


def test_only_the_text_between_the_marks_is_replaced() -> None:
    text = "Before.\n\n<!-- generated: inner -->\nold\n<!-- end -->\n\nAfter.\n"
    assert with_tables(text, {"inner": Inner}) == (
        "Before.\n\n<!-- generated: inner -->\n"
        "| key | default | values | meaning |\n"
        "| --- | --- | --- | --- |\n"
        "| `size` | `3` | integer | Side in pixels. |\n"
        "<!-- end -->\n\nAfter.\n"
    )


def test_an_unknown_table_is_an_error() -> None:
    with pytest.raises(ConfigError, match="unknown generated table 'iner'; did you mean inner"):
        with_tables("<!-- generated: iner -->\n<!-- end -->", {"inner": Inner})
