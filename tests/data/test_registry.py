from __future__ import annotations

import subprocess
import sys

import pytest

from prunebench.core.errors import ConfigError
from prunebench.data.registry import DATASETS, dataset_info, names


def test_data_sets_are_listed_in_order() -> None:
    assert list(DATASETS) == sorted(DATASETS) == names()


def test_listing_and_describing_import_no_torch() -> None:
    code = (
        "import sys; from prunebench.data.registry import dataset_info, names\n"
        "for name in names(): dataset_info(name)\n"
        "sys.exit(bool({'torch', 'torchvision', 'sklearn'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", names())
def test_a_description_is_consistent(name: str) -> None:
    info = dataset_info(name)
    assert info.name == name
    assert len(info.mean) == len(info.std) == info.shape[0]
    assert 0 <= info.validation < 1


def test_an_unknown_data_set_is_named_with_the_closest() -> None:
    with pytest.raises(ConfigError, match="unknown data set 'cifar01'; did you mean cifar10"):
        dataset_info("cifar01")
