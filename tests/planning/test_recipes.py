"""The recipes of this repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from prunebench.experiments.config import read_recipe

CONFIG = Path(__file__).parents[2] / "config"
IN_BF16 = sorted(path.stem for path in (CONFIG / "recipes").glob("*_bf16.yaml"))


@pytest.mark.parametrize("name", IN_BF16)
def test_a_bf16_recipe_has_an_fp32_counterpart_that_is_equal_otherwise(name: str) -> None:
    bf16, fp32 = read_recipe(CONFIG, name), read_recipe(CONFIG, name.removesuffix("_bf16"))
    assert (bf16.precision, fp32.precision) == ("bf16", "fp32")
    assert bf16.model_copy(update={"precision": "fp32"}) == fp32
