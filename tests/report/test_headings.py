"""Every table and figure says how large the test set is, and whether its runs are shortened."""

from __future__ import annotations

import pytest

from prunebench.report.figures.accuracy_epochs import accuracy_epochs
from prunebench.report.figures.accuracy_speedup import accuracy_speedup
from prunebench.report.headings import note_of_test_set, size_of_test_set
from prunebench.report.summary_table import short_table, summary_table
from tests.report.conftest import few_runs

SIZE = "test set: 360 images; one image is 0.28 points"


def test_the_size_of_the_test_set_is_a_note_of_each_section() -> None:
    frame = few_runs({"test_images": 360}, {"test_images": 10_000, "architecture": "vgg16"})
    first, second = summary_table(frame).sections
    assert first.notes[0] == SIZE
    # the base has 99 %: 100 * sqrt(0.99 * 0.01 / 10000) = 0.0995
    assert second.notes[0] == (
        "test set: 10,000 images; one image is 0.01 points; "
        "binomial standard error at 99.00 %: 0.10 points"
    )
    assert short_table(frame).sections[0].notes[0] == SIZE


@pytest.mark.parametrize(
    ("images", "base", "end"),
    [
        (999, 92.0, "one image is 0.1 points"),
        (1000, 92.0, "standard error at 92.00 %: 0.86 points"),
        (10_000, 92.0, "standard error at 92.00 %: 0.27 points"),
        (50_000, 76.0, "standard error at 76.00 %: 0.19 points"),
    ],
)
def test_noise_of_a_large_test_set_is_named(images: int, base: float, end: str) -> None:
    runs = few_runs({"test_images": images, "base_accuracy": base})
    assert note_of_test_set(runs).endswith(end)


def test_bases_of_several_seeds_count_once_for_the_noise() -> None:
    one = {"test_images": 10_000, "base_accuracy": 90.0}
    other = {"test_images": 10_000, "base_accuracy": 94.0, "seed": 1}
    assert "at 92.00 %" in note_of_test_set(few_runs(one, one | {"method": "x"}, other))


def test_titles_of_figures_stay_short() -> None:
    runs = few_runs({"test_images": 10_000})
    assert size_of_test_set(runs) == "test set: 10,000 images; one image is 0.01 points"
    assert "standard error" not in accuracy_speedup(runs).axes[0].get_title(loc="left")


def test_results_that_do_not_record_the_size_have_no_note() -> None:
    notes = summary_table(few_runs({"test_images": None})).sections[0].notes
    assert not any("test set" in note for note in notes)


def test_figures_of_test_accuracy_say_the_size_of_the_test_set() -> None:
    frame = few_runs({"test_images": 360})
    (axes,) = accuracy_speedup(frame).axes
    assert axes.get_title(loc="left").splitlines()[1:] == [SIZE]
    assert SIZE in accuracy_epochs(frame).subfigs[0].get_suptitle()


def test_shortened_runs_are_titled_so() -> None:
    frame = few_runs({"epochs_scale": 0.05})
    assert summary_table(frame).title == "digits · epochs × 0.05"
    assert summary_table(frame, "Ours · epochs × 0.05").title == "Ours · epochs × 0.05"
    assert short_table(frame).sections[0].heading.endswith(" · epochs × 0.05")
    for figure in (accuracy_speedup(frame), accuracy_epochs(frame)):
        assert figure.get_suptitle().endswith(" · epochs × 0.05")


def test_error_bars_end_at_100_percent() -> None:
    frame = few_runs({"accuracy": 98.5}, {"accuracy": 100.0, "seed": 1})
    (axes,) = accuracy_speedup(frame).axes
    (container,) = axes.containers
    ((low, high),) = container[2][0].get_segments()
    mean, std = 99.25, 1.5 / 2**0.5
    assert high[1] == 100.0
    assert round(low[1], 6) == round(mean - std, 6)


def test_detection_is_named_by_its_metric() -> None:
    frame = few_runs({"task": "detection", "test_images": 360})
    table, figures = summary_table(frame), (accuracy_speedup(frame), accuracy_epochs(frame))
    assert (
        table.sections[0].notes[0] == "test set: 360 images"
    )  # one image has no fixed share of AP
    assert [figure.get_suptitle() for figure in figures] == ["AP vs. speedup", "AP over epochs"]
    assert figures[0].axes[0].get_ylabel() == "COCO AP (%)"
    assert figures[1].subfigs[0].get_supylabel() == "Test COCO AP (%)"
