from __future__ import annotations

import pytest

from prunebench.training.weight_names import match_names


def test_prefixes_stages_shortcuts_and_the_classifier_have_common_forms() -> None:
    theirs = {
        "module.model.conv1.weight": (4, 3, 3, 3),
        "module.model.layer1.0.downsample.0.weight": (4, 4, 1, 1),
        "module.model.linear.weight": (2, 4),
        "module.model.bn1.num_batches_tracked": (),
    }
    own = {
        "conv1.weight": (4, 3, 3, 3),
        "stages.0.0.shortcut.0.weight": (4, 4, 1, 1),
        "fc.weight": (2, 4),
        "bn1.num_batches_tracked": (),
    }
    assert list(match_names(theirs, own, is_ordered=False).values()) == list(own)[:3]


def test_other_names_are_matched_by_a_unique_shape_and_kind() -> None:
    theirs = {"tail.bias": (2,), "tail.weight": (2, 4), "stem.weight": (4, 3, 3, 3)}
    own = {"a.weight": (4, 3, 3, 3), "b.weight": (2, 4), "b.bias": (2,)}
    assert match_names(theirs, own, is_ordered=False) == {
        "tail.bias": "b.bias",
        "tail.weight": "b.weight",
        "stem.weight": "a.weight",
    }


def test_equal_shapes_are_matched_in_order_only_if_the_file_keeps_it() -> None:
    theirs, own = {"x.weight": (4, 4), "y.weight": (4, 4)}, {"a.weight": (4, 4), "b.weight": (4, 4)}
    assert match_names(theirs, own, is_ordered=True) == {
        "x.weight": "a.weight",
        "y.weight": "b.weight",
    }
    with pytest.raises(ValueError, match=r"in the file: x.weight 4×4, y.weight 4×4; unmatched in"):
        match_names(theirs, own, is_ordered=False)


def test_another_order_of_shapes_is_refused() -> None:
    theirs = {"x.weight": (4, 2), "y.weight": (4, 4), "z.weight": (4, 4)}
    own = {"a.weight": (4, 4), "b.weight": (4, 2), "c.weight": (4, 4)}
    with pytest.raises(ValueError, match=r"unmatched in the network: a.weight 4×4"):
        match_names(theirs, own, is_ordered=True)


def test_a_name_that_two_tensors_share_is_not_guessed() -> None:
    theirs = {"fc.weight": (2, 4), "linear.weight": (2, 4)}
    with pytest.raises(ValueError, match=r"fc.weight 2×4, linear.weight 2×4"):
        match_names(theirs, {"fc.weight": (2, 4)}, is_ordered=True)
