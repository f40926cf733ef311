from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from prunebench.core.errors import ConfigError
from prunebench.experiments.config import (
    Config,
    ExperimentConfig,
    PublishedConfig,
    highlighted_methods,
    merged_config,
    read_config,
    read_experiment,
    read_recipe,
    table_options,
)
from prunebench.experiments.recipe import Recipe
from prunebench.experiments.validation import validate

EXPERIMENT_KEYS = (
    "controls, datasets, epochs_scale, highlight, max_images, max_steps, methods, networks, "
    "published, ratio_kind, ratios, recipe_cross, recipes, reference, seeds, threads, title"
)
METHOD_KEYS = "by_network, networks, options, ratio_kind, ratios, recipes, seeds, settings"


def experiment(**changed: Any) -> dict[str, Any]:
    content = {
        "title": "Two networks",
        "datasets": ["digits"],
        "networks": {"resnet20": {}, "vgg16_x0_25": {"seeds": [0]}},
        "methods": {"l1": {}, "greg_1": {"ratios": [0.5]}},
        "recipes": {"base": "digits_base"},
        "seeds": [0, 1],
    }
    return {**content, **changed}


def sentence(model: Any, content: Any) -> str:
    with pytest.raises(ConfigError) as error:
        validate(model, content, "x.yaml")
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"rcipes": {}},
            f"unknown key 'rcipes'; did you mean recipes? (allowed: {EXPERIMENT_KEYS})",
        ),
        ({1: 2}, f"unknown key '1' (allowed: {EXPERIMENT_KEYS})"),
        (
            {"networks": {"resnet20": {"seed": 1}}},
            "networks.resnet20: unknown key 'seed'; did you mean seeds? "
            "(allowed: latency_table, recipes, seeds)",
        ),
        (
            {"methods": {"l1": {"ratio": [0.5]}}},
            f"methods.l1: unknown key 'ratio'; did you mean ratios? (allowed: {METHOD_KEYS})",
        ),
        (
            {"methods": {"L1": {}}},
            "methods: 'L1' is not a valid name (allowed: lower-case letters, digits and "
            "underscores, a letter first)",
        ),
        ({"methods": {1: {}}}, "methods: expected text, found 1"),
        ({"methods": {}}, "methods: needs at least 1 entry, found {}"),
        ({"methods": None}, "methods: expected a mapping, found None"),
        ({"methods": {"l1": None}}, "methods.l1: expected a mapping, found None"),
        (
            {"methods": {"l1": {"settings": {"a b": {}}}}},
            "methods.l1.settings: 'a b' is not a valid name (allowed: lower-case letters, digits, "
            "dots and underscores, a letter first)",
        ),
        (
            {"methods": {"l1": {"settings": {}}}},
            "methods.l1.settings: needs at least 1 entry, found {}",
        ),
        ({"networks": ["resnet20"]}, "networks: expected a mapping, found ['resnet20']"),
        ({"datasets": []}, "datasets: needs at least 1 entry, found []"),
        ({"datasets": ["digits", "digits"]}, "datasets: 'digits' is given twice"),
        (
            {"ratios": [0.5, 1.0]},
            "ratios[1]: 1 is not in [0, 1); a ratio is the fraction removed",
        ),
        (
            {"ratios": [-0.1]},
            "ratios[0]: -0.1 is not in [0, 1); a ratio is the fraction removed",
        ),
        (
            {"methods": {"l1": {"ratios": [50]}}},
            "methods.l1.ratios[0]: 50 is not in [0, 1); a ratio is the fraction removed",
        ),
        (
            {"methods": {"l1": {"settings": {"a": {"ratios": [1.5]}}}}},
            "methods.l1.settings.a.ratios[0]: 1.5 is not in [0, 1); a ratio is the "
            "fraction removed",
        ),
        ({"ratios": [float("nan")]}, "ratios[0]: must be a finite number, not nan"),
        ({"ratios": ["half"]}, "ratios[0]: expected a number, found 'half'"),
        ({"ratios": 0.5}, "ratios: expected a list, found 0.5"),
        ({"ratios": [0.5, 0.50]}, "ratios: 0.5 is given twice"),
        ({"ratios": [False]}, "ratios: true and false are not allowed here"),
        (
            {"methods": {"l1": {"ratios": [0.5, "5e-1"]}}},
            "methods.l1.ratios: 0.5 is given twice",
        ),
        ({"seeds": []}, "seeds: needs at least 1 entry, found []"),
        ({"seeds": [0, -1]}, "seeds[1]: must be at least 0, not -1"),
        ({"seeds": [0.5]}, "seeds[0]: expected an integer, found 0.5"),
        ({"seeds": [True]}, "seeds: true and false are not allowed here"),
        (
            {"networks": {"resnet20": {"seeds": [1, 1]}}},
            "networks.resnet20.seeds: 1 is given twice",
        ),
        ({"threads": "two"}, "threads: expected an integer, found 'two'"),
        ({"threads": 0}, "threads: must be at least 1, not 0"),
        ({"threads": 100000}, "threads: must be at most 256, not 100000"),
        ({"seeds": [2**32]}, "seeds[0]: must be at most 4294967295, not 4294967296"),
        ({"ratios": [1e-300]}, "ratios[0]: 1e-300 is below 1e-06, the smallest ratio above 0"),
        (
            {"methods": {"l1": {"settings": {"a" * 300: {}}}}},
            f"methods.l1.settings: '{'a' * 58}… has 300 characters, at most 100 are allowed",
        ),
        ({"title": 3}, "title: expected text, found 3"),
        (
            {"networks": {"resnet20": {"latency_table": "a\0"}}},
            r"networks.resnet20.latency_table: 'a\x00' has the character NUL",
        ),
        (
            {"controls": ["l3"]},
            "controls[0]: unknown value 'l3' (allowed: l1, random, scratch_b, scratch_e, unpruned)",
        ),
        ({"controls": 2}, "controls: expected true or false, found 2"),
        (
            {"ratio_kind": "mac"},
            "ratio_kind: unknown value 'mac'; did you mean macs? "
            "(allowed: activations, auto, latency, macs, params, units_global, units_per_group, "
            "weights)",
        ),
        ({"recipes": {"base": ["a"]}}, "recipes.base: expected text, found ['a']"),
        (
            {"recipes": {"base": "../x"}},
            "recipes.base: '../x' is not a valid name (allowed: lower-case letters, digits and "
            "underscores, a letter first)",
        ),
        (
            {"title": ["x" * 80]},
            f"title: expected text, found ['{'x' * 57}…",
        ),
    ],
)
def test_an_invalid_experiment_gives_a_one_line_error(change: dict[Any, Any], words: str) -> None:
    assert sentence(ExperimentConfig, experiment(**{}) | change) == f"x.yaml: {words}"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lr": None}, "lr: expected a number, found None"),
        ({"lr": 0}, "lr: must be above 0.0, not 0"),
        ({"momentum": 1}, "momentum: must be below 1.0, not 1"),
        ({"epochs": True}, "epochs: true and false are not allowed here"),
        ({"nesterov": 3}, "nesterov: expected true or false, found 3"),
        ({"batch": 64}, "unknown key 'batch'; did you mean batch_size? (allowed: accumulation, "),
        (
            {"schedule": {"knd": "cosine"}},
            "schedule: unknown key 'knd'; did you mean kind? "
            "(allowed: factor, kind, milestones, per, warmup, warmup_epochs, warmup_from, ",
        ),
        (
            {"schedule": {"kind": "cosin"}},
            "schedule.kind: unknown value 'cosin'; did you mean cosine? "
            "(allowed: constant, cosine, exponential, milestones)",
        ),
        (
            {"schedule": {"kind": "milestones", "milestones": [5, "x"]}},
            "schedule.milestones[1]: expected a number, found 'x'",
        ),
        (
            {"schedule": {"kind": "milestones"}},
            "schedule: milestones must be given if and only if kind is 'milestones'",
        ),
        (
            {"augment": {"crop": 1}},
            "augment: unknown key 'crop'; did you mean crop_padding? "
            "(allowed: crop_padding, cutout, flip, jitter, lighting, random_crop, resized_crop)",
        ),
    ],
)
def test_an_invalid_recipe_gives_a_one_line_error(change: dict[str, Any], words: str) -> None:
    content = {"batch_size": 64, "lr": 0.1, "weight_decay": 0, **change}
    assert sentence(Recipe, content).startswith(f"x.yaml: {words}")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "the key 'experiments' is missing"),
        (None, "expected a mapping, found None"),
        (["quick"], "expected a mapping, found ['quick']"),
        (
            {"experiment": "quick"},
            "unknown key 'experiment'; did you mean experiments? "
            "(allowed: auto_accumulate, capture, check_base, checkpoint_seconds, data_dir, "
            "deterministic, device, experiments, override, ratios, reuse, runs_per_job, seeds, "
            "shared_bases, workers)",
        ),
        ({"experiments": ["quick", "quick"]}, "experiments: 'quick' is given twice"),
        (
            {"experiments": ["Quick"]},
            "experiments[0]: 'Quick' is not a valid name (allowed: lower-case letters, digits and "
            "underscores, a letter first)",
        ),
        (
            {"experiments": "quick", "device": "gpu"},
            "device: unknown value 'gpu' (allowed: auto, cpu, cuda)",
        ),
        (
            {"experiments": "quick", "checkpoint_seconds": -1},
            "checkpoint_seconds: must be at least 0.0, not -1",
        ),
        ({"experiments": "quick", "seeds": "x"}, "seeds[0]: expected an integer, found 'x'"),
    ],
)
def test_an_invalid_configuration_gives_a_one_line_error(content: Any, words: str) -> None:
    assert sentence(Config, content) == f"x.yaml: {words}"


@pytest.mark.parametrize(
    ("given", "experiments", "seeds"),
    [
        ({"experiments": "quick"}, ("quick",), None),
        ({"experiments": ["quick", "digits"]}, ("quick", "digits"), None),
        ({"experiments": "quick", "seeds": 0}, ("quick",), (0,)),
        ({"experiments": "quick", "seeds": "1"}, ("quick",), (1,)),
        ({"experiments": ["quick"], "seeds": ["0", "1"]}, ("quick",), (0, 1)),
    ],
)
def test_command_line_values_are_parsed(
    given: dict[str, Any], experiments: tuple[str, ...], seeds: tuple[int, ...] | None
) -> None:
    config = merged_config(given, Path("config"))
    assert (config.experiments, config.seeds) == (experiments, seeds)


def test_an_error_in_the_merged_configuration_mentions_the_command_line() -> None:
    with pytest.raises(ConfigError, match=r"^config/config\.yaml with --config: unknown key 'x'"):
        merged_config({"experiments": "quick", "x": 1}, Path("config"))


def test_an_error_in_part_of_a_file_names_the_place_in_the_whole_file() -> None:
    with pytest.raises(ConfigError, match=r"^x\.yaml: methods\.l1\.options\.epochs: expected an i"):
        validate(
            Recipe,
            {"batch_size": 2, "lr": 1, "weight_decay": 0, "epochs": "x"},
            "x.yaml",
            below=lambda key: "methods.l1.options" if key == "epochs" else "elsewhere",
        )


@pytest.fixture
def config_dir(tmp_path: Path) -> Path:
    """A folder of configuration with the experiment `quick` and the recipe `digits_base`."""
    files = {
        "config.yaml": {"experiments": "quick"},
        "experiments/quick.yaml": experiment(title="Quick start"),
        "recipes/digits_base.yaml": {"batch_size": 64, "lr": 0.1, "weight_decay": 0},
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(yaml.safe_dump(content), encoding="utf-8")
    return tmp_path


def test_files_are_read_by_name(config_dir: Path) -> None:
    assert read_config(config_dir / "config.yaml").experiments == ("quick",)
    assert read_experiment(config_dir, "quick").title == "Quick start"
    assert read_recipe(config_dir, "digits_base").lr == 0.1


@pytest.mark.parametrize(
    ("read", "name", "words"),
    [
        (
            read_experiment,
            "quik",
            "unknown experiment 'quik'; did you mean quick? (allowed: quick)",
        ),
        (read_recipe, "digits", "unknown recipe 'digits'; did you mean digits_base? (allowed: "),
    ],
)
def test_an_unknown_file_suggests_similar_names(
    config_dir: Path, read: Any, name: str, words: str
) -> None:
    with pytest.raises(ConfigError) as error:
        read(config_dir, name)
    assert str(error.value).startswith(words)
    assert str(error.value).endswith(
        f" in {config_dir}/{'experiments' if 'ex' in words else 'recipes'}"
    )


def test_an_error_in_a_file_names_it(config_dir: Path) -> None:
    path = config_dir / "recipes" / "digits_base.yaml"
    path.write_text("batch_size: 1\nlr: 0.1\nweight_decay: 0\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"^{path}: batch_size: must be at least 2, not 1$"):
        read_recipe(config_dir, "digits_base")


def test_a_link_to_nowhere_is_named(config_dir: Path) -> None:
    (config_dir / "recipes" / "lost.yaml").symlink_to("nowhere.yaml")
    with pytest.raises(ConfigError, match=r"lost.yaml: cannot be read \(No such file or directory"):
        read_recipe(config_dir, "lost")


def test_tables_get_the_title_and_the_reference_of_an_experiment(config_dir: Path) -> None:
    assert table_options(config_dir, "quick") == {"title": "Quick start"}
    assert table_options(config_dir, "gone") == {"title": "gone"}
    text = yaml.safe_dump(experiment(reference="greg_1"))
    (config_dir / "experiments" / "two.yaml").write_text(text, encoding="utf-8")
    assert table_options(config_dir, "two")["reference"] == "greg_1"


def test_figures_get_the_methods_in_color_of_an_experiment(config_dir: Path) -> None:
    assert highlighted_methods(config_dir, "quick") == ()
    assert highlighted_methods(config_dir, "gone") == ()
    text = yaml.safe_dump(experiment(highlight=["greg_1", "l1"]))
    (config_dir / "experiments" / "two.yaml").write_text(text, encoding="utf-8")
    assert highlighted_methods(config_dir, "two") == ("greg_1", "l1")


def test_an_experiment_without_a_file_has_its_name_as_title(config_dir: Path) -> None:
    assert table_options(config_dir, "quick")["title"] == "Quick start"
    assert table_options(config_dir, "gone")["title"] == "gone"


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        (("l1", "default", "0.5"), ("resnet56", "l1", "one_shot", None)),
        (("greg_1", "fast", "0.5"), ("resnet56", "greg_1", None, None)),
        (("greg_1", "fast", "auto"), ("resnet56", "greg_1", "filters", "2.55")),
        (("unpruned", "default", "0"), ("resnet56", "baseline", None, None)),
        (("random", "default", "0.5"), None),
    ],
)
def test_the_most_specific_key_gives_a_cell_s_printed_row(
    cell: tuple[str, str, str], names: tuple[str | None, ...] | None
) -> None:
    rows = {"l1": "l1/one_shot", "greg_1": "greg_1", "greg_1/fast/auto": "greg_1/filters/2.55"}
    published = PublishedConfig(
        paper="greg", table="Table 1", networks={"resnet56_b": "resnet56"}, rows=rows
    )
    found = published.name_of("resnet56_b", *cell)
    assert (found and tuple(found.values())) == names


@pytest.mark.parametrize(
    ("name", "scale", "title"),
    [
        ("quick", 0.1, "Quick start · epochs × 0.1"),  # in the experiment's file
        ("quick_x0_5", 1.0, "Quick start · epochs × 0.5"),
        ("quick_x0_5", 0.1, "Quick start · epochs × 0.05"),
    ],
)
def test_a_shortened_experiment_says_so_in_its_title(
    config_dir: Path, name: str, scale: float, title: str
) -> None:
    path = config_dir / "experiments" / "quick.yaml"
    content = experiment(title="Quick start", epochs_scale=scale)
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    assert read_experiment(config_dir, name).title == title
