from __future__ import annotations

import pytest

from prunebench.report.pages.timeline import Moment, Span, lr_words, moments_of, spans_of

HISTORY = {
    "phase": ["select", "fine_tune", "fine_tune", "prune", "fine_tune"],
    "event": ["pruned", "", "", "", ""],
    "lr": [None, 0.1, 0.01, 0.5, 0.001],
    "train_loss": [None, 1.0, 0.5, 0.4, 0.3],
    "val_accuracy": [30.0, 90.0, 91.0, 92.0, 93.0],
    "test_accuracy": [None, None, None, None, 94.0],
}


def test_epochs_count_over_all_phases_and_an_event_is_none() -> None:
    moments = moments_of(HISTORY)
    assert [moment.epoch for moment in moments] == [0, 1, 2, 3, 4]
    assert moments[0] == Moment(0, "select", "pruned", None, None, 30.0, None)
    assert moments[4] == Moment(4, "fine_tune", "", 0.001, 0.3, 93.0, 94.0)


def test_a_phase_that_comes_back_has_two_spans() -> None:
    assert spans_of(moments_of(HISTORY)) == [
        Span("select", 0, 0, ("pruned",), None),
        Span("fine_tune", 0, 2, (), (0.1, 0.01)),
        Span("prune", 2, 3, (), (0.5, 0.5)),
        Span("fine_tune", 3, 4, (), (0.001, 0.001)),
    ]


def test_a_history_without_learning_rates_has_none() -> None:
    spans = spans_of(moments_of({name: HISTORY[name] for name in HISTORY if name != "lr"}))
    assert [span.lr for span in spans] == [None, None, None, None]
    assert moments_of(None) == []


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (Span("fine_tune", 0, 2, (), (0.1, 0.01)), "0.1 → 0.01"),
        (Span("prune", 0, 2, (), (0.5, 0.5)), "0.5"),
        (Span("select", 0, 0, (), None), "–"),
        (Span("fine_tune", 0, 2, (), None), "0.05, schedule cosine"),
        (Span("stabilize", 0, 2, (), None), "not recorded"),
    ],
)
def test_the_learning_rate_is_that_of_the_epochs_or_of_the_recipe(span: Span, words: str) -> None:
    recipes = {"fine_tune": {"lr": 0.05, "schedule": {"kind": "cosine"}}}
    assert lr_words(span, recipes) == words
