from __future__ import annotations

from pathlib import Path

import pytest

from prunebench.core.errors import ConfigError
from prunebench.experiments.config import merged_config, read_experiment, read_recipe
from prunebench.experiments.override import Override, split_override
from prunebench.experiments.recipe import Recipe, Schedule


@pytest.mark.parametrize(
    ("name", "stem", "override"),
    [
        ("greg", "greg", Override()),
        ("greg_on_digits", "greg", Override(dataset="digits")),
        ("greg_x0_05", "greg", Override(epochs_scale=0.05)),
        ("greg_on_cifar10_x0_5", "greg", Override(dataset="cifar10", epochs_scale=0.5)),
        ("vgg16_x0_25", "vgg16_x0_25", Override()),  # a file has this name
        ("greg_steps20", "greg", Override(max_steps=20)),
        ("greg_images100", "greg", Override(max_images=100)),
        (
            "greg_on_digits_x0_5_steps20_images100",
            "greg",
            Override(dataset="digits", epochs_scale=0.5, max_steps=20, max_images=100),
        ),
        ("greg_images0", "greg_images0", Override()),
    ],
)
def test_a_name_contains_the_override(
    tmp_path: Path, name: str, stem: str, override: Override
) -> None:
    (tmp_path / "vgg16_x0_25.yaml").touch()
    assert split_override(tmp_path, name) == (stem, override)
    assert name == stem + override.suffix


@pytest.mark.parametrize(
    "override",
    [{"dataset": "digits", "epochs_scale": 0.05}, '{"dataset": "digits", "epochs_scale": 0.05}'],
)
def test_an_override_becomes_part_of_the_names(override: object) -> None:
    content = {"experiments": ["a", "b"], "override": override}
    config = merged_config(content, Path("config"))
    assert config.experiments == ("a_on_digits_x0_05", "b_on_digits_x0_05")
    assert config.override is None


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("digits", "override: 'digits' is not JSON such as"),
        ({"max_steps": 0}, "override.max_steps: must be at least 1, not 0"),
        ({"max_images": 1}, "override.max_images: must be at least 2, not 1"),
        ({"epochs_scale": 2}, "override.epochs_scale: must be at most 1.0, not 2"),
        ({"epochs_scale": 1e-300}, "override.epochs_scale: must be at least 0.0001, not 1e-300"),
        ("[" * 100_000, r"override: '\[+… is not JSON such as"),
        ({"data": "digits"}, "override: unknown key 'data'; did you mean dataset"),
    ],
)
def test_an_invalid_override_gives_a_one_line_error(override: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        merged_config({"experiments": ["a"], "override": override}, Path("config"))


@pytest.mark.parametrize("name", ["../a", "a" * 300, "a_x0_1\n", ""])
def test_what_is_no_name_has_no_override_and_is_not_searched(tmp_path: Path, name: str) -> None:
    assert split_override(tmp_path, name) == (name, Override())


def test_the_factors_of_name_and_file_together_may_not_be_too_small(tmp_path: Path) -> None:
    (tmp_path / "experiments").mkdir()
    file = tmp_path / "experiments/t.yaml"
    file.write_text(f"{EXPERIMENT}epochs_scale: 0.001\n", encoding="utf-8")
    assert read_experiment(tmp_path, "t_x0_5").epochs_scale == 0.0005
    with pytest.raises(
        ConfigError, match=r"t.yaml: epochs_scale: .* factor 1e-05, at least 0.0001"
    ):
        read_experiment(tmp_path, "t_x0_01")
    with pytest.raises(ConfigError, match=r"t_x0_00: the epochs have the factor 0, at least"):
        read_experiment(tmp_path, "t_x0_00")


def test_a_name_with_too_few_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="greg_images1: at least 2 images are needed"):
        split_override(tmp_path, "greg_images1")


def test_a_trial_is_part_of_recipes_and_titles(tmp_path: Path) -> None:
    for name, text in {
        "experiments/t.yaml": f"{EXPERIMENT}max_steps: 30\n",
        "recipes/long.yaml": "{epochs: 2, batch_size: 4, lr: 0.1, weight_decay: 0}\n",
        "recipes/bad.yaml": "{max_images: 9, batch_size: 4, lr: 0.1, weight_decay: 0}\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    trial = read_experiment(tmp_path, "t_steps50_images100")
    assert (trial.max_steps, trial.max_images) == (30, 100)  # the smaller one of both
    assert trial.title == "Table 1 · at most 30 steps per phase · at most 100 images"
    recipe = read_recipe(tmp_path, "long_x0_5_steps30_images100")
    assert (recipe.epochs, recipe.max_steps, recipe.max_images) == (1, 30, 100)
    with pytest.raises(ConfigError, match=r"bad.yaml: max_images: set it in the override or in"):
        read_recipe(tmp_path, "bad")


def test_imported_weights_are_not_expected_to_score_the_same_on_fewer_images() -> None:
    recipe = Recipe(batch_size=4, lr=0.1, weight_decay=0, weights="a.pt", expected_top1=76.1)
    assert recipe.limited(30, None).expected_top1 == 76.1
    assert recipe.limited(None, 100).expected_top1 is None
    assert recipe.limited(None, None) is recipe


EXPERIMENT = """\
title: Table 1
datasets: [cifar10]
networks: {resnet20: {}}
methods: {l1: {}}
recipes: {base: long, fine_tune: long}
seeds: 0
"""
LOADED = "{weights: a.pt, epochs: 2, batch_size: 4, lr: 0.1, weight_decay: 0}\n"


def test_the_title_mentions_another_data_set(tmp_path: Path) -> None:
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments/t.yaml").write_text(EXPERIMENT, encoding="utf-8")
    moved = read_experiment(tmp_path, "t_on_digits_x0_1")
    assert moved.datasets == ("digits",)
    assert moved.epochs_scale == 0.1
    assert moved.title == "Table 1 · digits instead of cifar10 · epochs × 0.1"
    assert read_experiment(tmp_path, "t_on_cifar10").title == "Table 1"
    with pytest.raises(ConfigError, match="unknown experiment 'u'"):
        read_experiment(tmp_path, "u_on_digits")


def test_the_title_mentions_base_networks_trained_instead_of_loaded(
    tmp_path: Path,
) -> None:
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments/t.yaml").write_text(EXPERIMENT, encoding="utf-8")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/long.yaml").write_text(LOADED, encoding="utf-8")
    assert read_experiment(tmp_path, "t_on_digits").title == (
        "Table 1 · digits instead of cifar10 · base networks trained instead of a.pt"
    )
    assert read_experiment(tmp_path, "t_x0_1").title == "Table 1 · epochs × 0.1"


def test_a_shortened_recipe_ends_at_the_same_learning_rate() -> None:
    recipe = Recipe(
        epochs=120,
        batch_size=64,
        lr=0.01,
        weight_decay=0.0,
        schedule=Schedule(kind="milestones", milestones=(60, 90), warmup_epochs=5),
    )
    short = recipe.shortened(0.1)
    assert short.epochs == 12
    assert short.schedule.milestones == (6.0, 9.0)
    assert short.schedule.warmup_epochs == 0.5
    ends = [r.lr_at(r.epochs - 1, r.epochs) for r in (recipe, short) if r.epochs]
    assert ends == pytest.approx([1e-4, 1e-4])
    assert recipe.shortened(0.001).epochs == 1
    assert recipe.shortened(1) is recipe


def test_a_shortened_training_has_no_expected_accuracy() -> None:
    recipe = Recipe(epochs=90, batch_size=64, lr=0.1, weight_decay=0.0, expected_top1=76.1)
    assert recipe.shortened(0.1).expected_top1 is None
    given = recipe.model_copy(update={"weights": "a.pt"})
    assert given.shortened(0.1).expected_top1 == 76.1


def test_a_shortened_exponential_schedule_ends_at_the_same_factor() -> None:
    schedule = Schedule(kind="exponential", factor=0.98, per="step")
    assert schedule.shortened(0.1).factor_at(30, 30) == pytest.approx(0.98**300)
