"""Recipes adapted to data sets that they were not made for."""

from __future__ import annotations

from typing import Any

import pytest

from prunebench.data.registry import dataset_info
from prunebench.experiments.recipe import Augment, Recipe, ResizedCrop
from prunebench.planning.adapted_recipes import adapted

CROPPED = {"resized_crop": {}, "flip": True}


def recipe(**keys: Any) -> Recipe:
    return Recipe.model_validate({"batch_size": 256, "lr": 0.1, "weight_decay": 1e-4, **keys})


@pytest.mark.parametrize(
    ("dataset", "before", "after"),
    [
        ("cifar10", CROPPED, {"crop_padding": 4, "flip": True}),
        ("fashion_mnist", CROPPED, {"crop_padding": 3, "flip": True}),  # 28 / 8, rounded down
        ("synthetic", {"jitter": 0.4}, {"crop_padding": 1, "flip": True}),
        ("synthetic_32", CROPPED, {"crop_padding": 4, "flip": True}),
        ("digits", CROPPED, {"crop_padding": 1}),  # a mirrored digit is none
        ("digits", {"crop_padding": 4, "flip": True}, {"crop_padding": 1}),
        ("digits", {"crop_padding": 4}, {"crop_padding": 4}),
        ("digits", {"lighting": 0.1}, {"crop_padding": 1}),  # grey
        ("cifar10", {"lighting": 0.1, "cutout": 8}, {"lighting": 0.1, "cutout": 8}),
        ("imagenet", CROPPED, CROPPED),
        ("folder_flowers", {**CROPPED, "jitter": 0.4}, {**CROPPED, "jitter": 0.4}),
    ],
)
def test_an_augmentation_that_does_not_apply_is_replaced(
    dataset: str, before: dict[str, Any], after: dict[str, Any]
) -> None:
    found = adapted(recipe(augment=before), dataset_info(dataset))
    assert found.augment == Augment.model_validate(after)


@pytest.mark.parametrize(
    ("dataset", "after"), [("cifar100", "greg_cifar10"), ("digits", "dataset")]
)
def test_a_normalization_for_the_same_number_of_channels_stays(dataset: str, after: str) -> None:
    assert adapted(recipe(normalize="greg_cifar10"), dataset_info(dataset)).normalize == after


def test_an_unknown_normalization_stays_so_that_its_check_reports_it() -> None:
    assert adapted(recipe(normalize="greg"), dataset_info("digits")).normalize == "greg"


def test_weights_and_accuracy_of_other_images_are_dropped() -> None:
    found = adapted(
        recipe(epochs=90, weights="a.pt", weights_sha256="0" * 64, expected_top1=76.1),
        dataset_info("cifar10"),
    )
    assert found == recipe(epochs=90)


def test_frozen_statistics_are_updated_instead() -> None:
    found = adapted(recipe(norm_statistics="frozen"), dataset_info("synthetic"))
    assert found == recipe()


def test_a_recipe_that_applies_is_unchanged() -> None:
    fitting = recipe(epochs=2, augment=Augment(crop_padding=4, flip=True, cutout=8))
    assert adapted(fitting, dataset_info("cifar100")) == fitting
    files = recipe(augment=Augment(resized_crop=ResizedCrop()))
    assert adapted(files, dataset_info("imagenet")) == files
