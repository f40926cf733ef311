"""The metric of a task: its name in files, and its words for people.

Code calls the metric of a run its accuracy, in percent. Files name it: training.json, history.csv
and runs.csv have `top1`, `val_top1`, ... for classification, and `map`, `val_map`, ... for
detection. `to_file` and `from_file` translate the names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Task = Literal["classification", "detection"]
OWN = "accuracy"  # the name in code


@dataclass(frozen=True)
class Metric:
    """A metric in percent; higher is better.

    Attributes
    ----------
    name
        Name in files.
    short
        Heading of a table's column.
    words
        Words within a sentence.
    noun
        First word of a figure's title.
    parts
        Headings of the metrics that tables show beside it, by column.
    counts_images
        Whether it is the share of images that a network gets right.
    """

    name: str
    short: str
    words: str
    noun: str
    parts: Mapping[str, str] = field(default_factory=dict)
    counts_images: bool = False

    @property
    def axis(self) -> str:
        """Return the label of an axis.

        >>> METRICS["classification"].axis
        'Top-1 accuracy (%)'
        """
        return f"{self.words[0].upper()}{self.words[1:]} (%)"


METRICS: dict[str, Metric] = {
    "classification": Metric("top1", "top-1", "top-1 accuracy", "Accuracy", counts_images=True),
    "detection": Metric("map", "AP", "COCO AP", "AP", {"ap50": "AP50", "ap75": "AP75"}),
}


def to_file(name: str, metric: Metric) -> str:
    """Return the name in files of a field that holds accuracies.

    >>> to_file("accuracy_best_val", METRICS["classification"]), to_file("val_accuracy", MAP)
    ('top1_best_val', 'val_map')
    """
    return name.replace(OWN, metric.name)


def renamed(content: Any, old: str, new: str) -> Any:
    """Return content of a JSON file with `old` replaced by `new` in the keys, at every depth.

    >>> renamed({"accuracy": 9, "plans": [{"test_accuracy_after": 8}]}, "accuracy", "top1")
    {'top1': 9, 'plans': [{'test_top1_after': 8}]}
    """
    if isinstance(content, dict):
        return {key.replace(old, new): renamed(inner, old, new) for key, inner in content.items()}
    if isinstance(content, list | tuple):
        return [renamed(inner, old, new) for inner in content]
    return content


MAP = METRICS["detection"]
