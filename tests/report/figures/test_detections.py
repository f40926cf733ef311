from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from PIL import Image

from prunebench.core.errors import ResultError
from prunebench.experiments.results import FoundBox, TrueBox
from prunebench.report.collected_detections import ShownDetections, ShownNetwork, write_detections
from prunebench.report.figures.detections import (
    COLORS,
    colors_of,
    detections,
    with_shared_images,
    write_detections_figure,
)
from tests.report.conftest import few_runs, legend, words


def jpeg(width: int, height: int) -> str:
    file = io.BytesIO()
    Image.new("RGB", (width, height), "grey").save(file, "JPEG")
    return base64.b64encode(file.getvalue()).decode()


def network(*methods: str, **known: Any) -> ShownNetwork:
    """Two pictures with a cat each; methods see a dog in the first one and nothing in the other."""
    cat, dog = (TrueBox(0, 2.0, 2.0, 8.0, 8.0),), (FoundBox(3, 0.8, 1.0, 1.0, 8.0, 8.0),)
    plain = {
        "dataset": "digits",
        "architecture": "resnet20",
        "seed": 0,
        "classes": ("cat", "cow", "emu", "dog"),
        "jpeg": (jpeg(16, 8), jpeg(8, 8)),
        "truth": (cat, cat),
        "base": ((FoundBox(0, 0.9, 2.0, 2.0, 8.0, 8.0),), ()),
        "runs": {f"{method}/default/0.5": (dog, ()) for method in methods},
    }
    return ShownNetwork.model_validate(plain | known)


RUN = {"task": "detection", "base_accuracy": 60.0, "accuracy": 50.0}


def boxes(axes: Axes) -> list[tuple[str, bool]]:
    """Color and whether dashed, of each box in a panel."""
    drawn = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    return [(to_hex(box.get_edgecolor()), box.get_linestyle() != "-") for box in drawn]


def test_a_column_per_network_and_a_row_per_picture() -> None:
    frame = few_runs(RUN, RUN | {"method": "greg_1", "accuracy": 55.0})
    panels = detections(frame, [network("l1", "greg_1")]).axes
    titles = [axes.get_title(loc="left") for axes in panels]
    assert titles == ["base\nAP 60.0", "", "greg_1\nAP 55.0", "", "l1\nAP 50.0", ""]
    boxes_of_shape = [axes.get_position().width / axes.get_position().height for axes in panels]
    assert boxes_of_shape[0] == pytest.approx(2 * boxes_of_shape[1])  # as wide, half as high


def test_boxes_have_the_color_of_their_class_and_true_ones_are_dashed() -> None:
    figure = detections(few_runs(RUN), [network("l1")])
    cat, dog = COLORS[:2]  # the classes that no box has take no color
    base, base_second, pruned, pruned_second = map(boxes, figure.axes)
    assert base == [(cat, True), (cat, False)]
    assert pruned == [(cat, True), (dog, False)]
    assert base_second == pruned_second == [(cat, True)]
    assert legend(figure) == ["cat", "dog", "true box"]


@pytest.mark.parametrize(("name", "is_written"), [("dog", True), ("greyhound", False)])
def test_short_names_are_written_beside_boxes(name: str, is_written: bool) -> None:
    shown = network("l1", classes=("cat", "cow", "emu", name))
    assert (name in words(detections(few_runs(RUN), [shown]).axes[2])) is is_written


def test_many_classes_share_colors() -> None:
    truth = tuple(TrueBox(i, 0.0, 0.0, 1.0, 1.0) for i in range(12))
    names = tuple(f"class {i}" for i in range(12))
    colors = colors_of([network(classes=names, truth=(truth, ()))])
    assert list(colors) == list(names)
    assert colors["class 11"] == colors["class 1"] == COLORS[1]


def test_runs_without_detections_have_no_column() -> None:
    frame = few_runs(RUN, RUN | {"method": "fpgm"}, RUN | {"method": "srfp", "seed": 1})
    figure = detections(frame, [network("l1", "srfp")])  # detections are of seed 0
    assert [axes.get_title(loc="left")[:4] for axes in figure.axes[::2]] == ["base", "l1\nA"]


def test_columns_that_do_not_fit_continue_below() -> None:
    methods = [f"m{i}" for i in range(9)]
    frame = few_runs(*(RUN | {"method": method} for method in methods))
    panels = detections(frame, [network(*methods)]).axes
    assert len(panels) == 18  # of the base and eight methods; there are two pictures
    tops = [round(axes.get_position().y1, 3) for axes in panels[::2]]
    assert len(set(tops)) == 2
    assert all(axes.get_position().y0 > 0 for axes in panels)


def test_files_are_written_if_there_are_detections(tmp_path: Path) -> None:
    few_runs(RUN).rename(columns={"accuracy": "map", "base_accuracy": "base_map"}).to_csv(
        tmp_path / "runs.csv", index=False
    )
    assert write_detections_figure(tmp_path / "runs.csv", tmp_path) == []
    write_detections(tmp_path, ShownDetections(networks=(network("l1"),)))
    svg, png, pdf = write_detections_figure(tmp_path / "runs.csv", tmp_path)
    text = svg.read_text(encoding="utf-8")
    assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert len(re.findall("<image ", text)) == 2  # two pictures in four panels
    assert len(re.findall('<use xlink:href="#picture', text)) == 4
    with Image.open(png) as image:
        assert image.width == pytest.approx(180 / 25.4 * 200, abs=1)
    first = [path.read_bytes() for path in (svg, png, pdf)]
    again = write_detections_figure(tmp_path / "runs.csv", tmp_path)
    assert [path.read_bytes() for path in again] == first


def test_a_damaged_picture_is_named() -> None:
    with pytest.raises(ResultError, match=r"detections\.json: a picture is no JPEG file"):
        detections(few_runs(RUN), [network("l1", jpeg=("", ""))])


def test_equal_images_are_stored_once() -> None:
    image = '<image xlink:href="data:x{}" id="i{}" transform="m({})" width="8" height="4"/>'
    svg = "<defs></defs>" + image.format(1, 1, 1) + image.format(1, 2, 2) + image.format(2, 3, 3)
    assert with_shared_images(svg) == (
        '<defs>\n<image id="picture0" xlink:href="data:x1" width="8" height="4"/>\n'
        '<image id="picture1" xlink:href="data:x2" width="8" height="4"/></defs>'
        '<use xlink:href="#picture0" transform="m(1)"/>'
        '<use xlink:href="#picture0" transform="m(2)"/>'
        '<use xlink:href="#picture1" transform="m(3)"/>'
    )
