from __future__ import annotations

import itertools

import numpy as np
import pytest

from prunebench.experiments.config import ExperimentConfig
from prunebench.papers.published import papers, read_published
from prunebench.report.looks import LOOKS, MOST_IN_COLOR, highlights, look

# Machado, Oliveira, Fernandes (2009), full severity: linear RGB as seen without one cone
SEEN = {
    "all cones": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear_rgb(color: str) -> np.ndarray:
    rgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """Return CIE L*a*b*, in which distances are about as large as they look."""
    x, y, z = np.cbrt(np.maximum(TO_XYZ @ rgb.clip(0, 1) / [0.95047, 1, 1.08883], 0.008856))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("eye", SEEN)
def test_the_colors_of_papers_methods_differ_for_every_eye(eye: str) -> None:
    papers = [one.color for one in LOOKS.values() if one.group == "paper"]
    seen = [lab(np.array(SEEN[eye]) @ linear_rgb(color)) for color in papers]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 12


def test_no_two_methods_share_color_and_marker() -> None:
    looks = [(one.color, one.marker) for one in LOOKS.values()]
    assert len(set(looks)) == len(looks)


@pytest.mark.parametrize("method", ["random", "scratch_e", "scratch_b", "uniform_width"])
def test_controls_are_dotted_grey(method: str) -> None:
    red, green, blue = linear_rgb(look(method).color)
    assert look(method).line == ":"
    assert red == green == blue


@pytest.mark.parametrize("method", [name for name, one in LOOKS.items() if one.group == "baseline"])
def test_baselines_are_blueish_grey_lines(method: str) -> None:
    red, green, blue = linear_rgb(look(method).color)
    assert red < green < blue
    assert look(method).line == "-"


def test_unknown_method_keeps_its_look() -> None:
    assert look("my_method") == look("my_method")
    assert (look("my_method").color, look("my_method").marker) == ("#b5006c", "o")
    assert look("my_method").group == "plug_in"


def test_methods_of_papers_name_a_file_of_printed_rows() -> None:
    named = {name: one.paper for name, one in LOOKS.items() if one.group == "paper"}
    assert set(named.values()) == set(papers(read_published()))
    assert all(one.paper is None for one in LOOKS.values() if one.group != "paper")


def test_one_method_of_each_paper_and_l1_are_highlighted() -> None:
    found = highlights(LOOKS)
    assert found == [
        *("asrfp", "early_bird", "epruner", "greg_1", "group_fisher", "increg"),
        *("l1", "random"),
    ]


def test_a_plug_in_is_highlighted() -> None:
    assert "my_method" in highlights([*LOOKS, "my_method"])


def test_an_experiment_highlights_as_many_methods_as_a_panel_shows() -> None:
    schema = ExperimentConfig.model_json_schema()["properties"]["highlight"]
    assert schema["maxItems"] == MOST_IN_COLOR == 8
