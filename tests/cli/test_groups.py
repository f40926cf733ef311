from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from prunebench.cli.describe import build, image_shape, report
from prunebench.core.errors import ConfigError


def test_a_network_of_this_project_is_described() -> None:
    lines = list(report("resnet20_x0_25", None, "1x8x8", "auto", None))
    assert lines[0] == "prunable groups: 12, with 100 units"
    assert "stages.0.0.conv1 · inside · 4 units" in lines
    assert "  fc · 10 units · is an output of the network" in lines


def test_any_function_s_network_is_described() -> None:
    lines = list(report("torchvision.models:squeezenet1_1", 7, "3x32x32", "auto", None))
    assert "  classifier.1 · 7 units · is an output of the network" in lines


def test_the_picture_is_a_file_of_its_own(tmp_path: Path) -> None:
    out = tmp_path / "resnet20.svg"
    lines = list(report("resnet20_x0_25", None, "3x8x8", "auto", out))
    assert lines[-1] == str(out)
    assert ElementTree.parse(out).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_numbers_of_classes_are_passed_on() -> None:
    assert build("torchvision.models:resnet18", 3, 3).fc.out_features == 3
    assert build("resnet20", None, 1).fc.out_features == 10


def test_other_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"n\.png must end in \.svg or \.dot"):
        list(report("resnet20_x0_25", None, "3x8x8", "auto", tmp_path / "n.png"))


@pytest.mark.parametrize("text", ["", "3", "3x0x2", "3x32", "axbxc", "3x32x32x32"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--image"):
        image_shape(text)
