from __future__ import annotations

import pytest

from prunebench.core.errors import ConfigError
from prunebench.data.normalization import NORMALIZATIONS, normalization
from prunebench.data.registry import dataset_info


def test_normalizations_are_listed_in_order() -> None:
    assert list(NORMALIZATIONS) == sorted(NORMALIZATIONS)


def test_dataset_is_the_data_sets_own() -> None:
    info = dataset_info("fashion_mnist")
    assert normalization("dataset", info) == NORMALIZATIONS["fashion_mnist"]


def test_greg_normalizes_cifar10_by_imagenet() -> None:
    found = normalization("greg_cifar10", dataset_info("cifar10"))
    assert found.mean == (0.485, 0.456, 0.406)
    assert found.std == (0.229, 0.224, 0.225)


def test_sfp_prints_its_numbers_on_the_scale_of_bytes() -> None:
    found = normalization("sfp_cifar10", dataset_info("cifar10"))
    assert found.mean == pytest.approx((0.4914, 0.4824, 0.4467), abs=5e-5)


def test_an_unknown_normalization_is_named_with_the_closest() -> None:
    with pytest.raises(ConfigError, match="unknown normalization 'greg_cifar'; did you mean greg"):
        normalization("greg_cifar", dataset_info("cifar10"))


def test_a_normalization_for_other_channels_is_refused() -> None:
    with pytest.raises(ConfigError, match="'imagenet' has 3 channels and digits has 1"):
        normalization("imagenet", dataset_info("digits"))
