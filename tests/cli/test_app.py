from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import prunebench
from prunebench.cli import forkserver
from prunebench.data.dataset import prepare
from prunebench.experiments.latency_table import LatencyTable
from prunebench.experiments.machine import Machine
from prunebench.experiments.spec import RunSpec
from prunebench.measure import width_latencies
from prunebench.training import several_runs, train
from tests.cli.conftest import RECIPE, WriteConfig, write_yaml
from tests.data.conftest import write_image

DIGITS = Path(__file__).parents[2] / "results" / "reference" / "digits" / "runs.csv"
COMMANDS = (
    "init",
    "resolve",
    "plan",
    "doctor",
    "compare",
    "data",
    "base",
    "prune",
    "measure",
    "latencies",
    "additivity",
    "collect",
    "tables",
    "figures",
    "claims",
    "report",
    "status",
    "show",
    "diff",
    "costs",
    "published",
    "verify",
    "repair",
    "discard",
    "share",
    "pack",
    "export",
    "groups",
    "new-method",
    "list",
    "reference",
)


def test_without_arguments_the_commands_are_listed(call: Any) -> None:
    code, out, _ = call()
    assert code == 0
    listed = [line.split()[0] for line in out.split("Commands:\n")[1].splitlines()]
    assert tuple(listed) == COMMANDS
    assert "..." not in out.split("Commands:\n")[1]  # every help text fits into one line


def test_the_version_is_printed(call: Any) -> None:
    assert call("--version") == (0, f"prunebench {prunebench.__version__}\n", "")


def test_descriptions_are_aligned_and_need_no_configuration(
    call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = call("list")
    assert code == 0
    assert f"experiments:\n  config/experiments: no such folder in {tmp_path}; run in" in out
    methods = out.split("methods:\n")[1].split("networks:\n")[0].splitlines()
    assert {line[26] for line in methods} == {" "}
    assert " " not in {line[27] for line in methods}
    code, out, err = call("list", "recipes")
    assert (code, out) == (1, "")
    assert err.startswith(f"prunebench: config/recipes: no such folder in {tmp_path}; run in")


def test_a_long_name_moves_the_descriptions_of_its_list(
    call: Any, write_config: WriteConfig
) -> None:
    config = write_config()
    long = "a_name_of_more_than_24_characters"
    (config / f"experiments/{long}.yaml").write_text(
        (config / "experiments/tiny.yaml").read_text(encoding="utf-8"), encoding="utf-8"
    )
    assert call("list", "experiments")[1] == f"{long} Stripes\n{'tiny':<33} Stripes\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_each_of_its_options(call: Any, command: str) -> None:
    code, out, _ = call(command, "--help")
    options = [line for line in out.split("Options:\n")[1].splitlines() if line[:3] == "  -"]
    assert code == 0
    assert len(options) >= 1
    # words stand beside the option, or where that is too long, on the next line
    lines = out.splitlines()
    for line in options:
        words = line.split("  ")[2:] or lines[lines.index(line) + 1].split()
        assert any(word.strip()[:1] not in ("", "[") for word in words), line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("prune --ratio", "option '--ratio' requires an argument; see `prunebench prune --help`"),
        ("base", "missing option '--dataset'; see `prunebench base --help`"),
        ("prune --method l1 --foo", "no such option: --foo; see `prunebench prune --help`"),
        ("base --seed -1 --dataset x", "invalid value for '--seed': "),
        ("base --dataset x --threads 100000", "invalid value for '--threads': "),
        ("base --dataset x --seed 1000000000000", "invalid value for '--seed': "),
        ("base --dataset x --workers 257", "invalid value for '--workers': "),
        ("prun", "no such command 'prun'"),
        ("--foo", "no such option: --foo; see `prunebench --help`"),
    ],
)
def test_a_usage_error_is_one_line(call: Any, arguments: str, words: str) -> None:
    code, out, err = call(*arguments.split())
    assert (code, out) == (2, "")
    assert err.startswith(f"prunebench: {words}")
    assert err.endswith("--help`\n")
    assert err.count("\n") == 1


BUILDERS = """
import urllib.error

import torch
from torch import nn

WIDTH = 8
halves = torch.jit.CompilationUnit("def halve(x):\\n    return x / 2\\n")


class Halved(nn.Conv2d):
    def forward(self, x):
        return halves.halve(super().forward(x))


def offline():
    raise urllib.error.URLError("no network")


def silent():
    raise AssertionError


def broken():
    raise RuntimeError("size mismatch\\n  in layer 1")


def scripted():
    return Halved(3, 4, 1)
"""


@pytest.fixture(autouse=True)
def own_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the folders and modules that a command adds to Python's own."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("builder", "failing"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("measure --only foo", "--only: unknown value 'foo' (allowed: cost, latency)"),
        ("prune --method l1 --device gpu", "--device: unknown value 'gpu' (allowed: auto, cpu, cu"),
        ("prune --method gerg_1", "unknown method 'gerg_1'; did you mean greg_1? (allowed: asfp,"),
        ("prune --method l1 --experiment tny", "unknown experiment 'tny'; did you mean tiny? "),
        ("prune --method l1 --ratio 0.6", "--ratio: unknown ratio '0.6' (allowed: 0.5) among"),
        ("prune --method sfp", "--method: unknown method 'sfp' (allowed: l1, unpruned) among"),
        ("measure --dataset digits", "--dataset: unknown dataset 'digits' (allowed: synthetic)"),
        ("collect --runs none.json", "none.json: no such file"),
        ("tables --runs-csv none.csv --out .", "none.csv: no such file"),
        (
            f"tables --reference gerg_1 --out . --runs-csv {DIGITS}",
            "runs.csv: no run of the reference 'gerg_1', only of unpruned, random, l1, scratch_e,",
        ),
        ("figures --runs-csv none.csv --out .", "none.csv: no such file"),
        ("data --dataset digist", "unknown data set 'digist'; did you mean digits? (allowed: b"),
        (
            "base --dataset synthetik --architecture resnet20 --recipe one_epoch",
            "unknown data set 'synthetik'; did you mean synthetic?",
        ),
        (
            "base --dataset synthetic --architecture resnet200 --recipe one_epoch",
            "unknown network 'resnet200'; did you mean resnet20",
        ),
        (
            "base --dataset synthetic --architecture resnet20 --recipe one_epohc",
            "unknown recipe 'one_epohc'; did you mean one_epoch? (allowed: one_epoch) in config/",
        ),
        (
            f"base --dataset synthetic --architecture resnet20 --recipe {'a' * 300}",
            f"unknown recipe '{'a' * 58}… (allowed: one_epoch) in config/recipes",
        ),
        (
            f"base --dataset folder_{'a' * 300} --architecture resnet20 --recipe one_epoch",
            f"data set 'folder_{'a' * 51}…: not a valid name (allowed: lower-case letters, digits",
        ),
        ("data --dataset folder_../x", "data set 'folder_../x': not a valid name (allowed: lower"),
        (
            f"collect --experiment {'a' * 300}",
            f"unknown experiment '{'a' * 58}… (allowed: tiny) in",
        ),
        ("list method", "unknown list 'method'; did you mean methods? (allowed: datasets,"),
        ("list options gerg_1", "unknown method 'gerg_1'; did you mean greg_1? (allowed: asfp,"),
        ("list methods l1", "list methods takes no further argument, got 'l1'"),
        ("resolve --config none.yaml", "none.yaml: cannot be read (No such file or directory)"),
        ("export none --out x.pt2", "none/structure.json: no such file"),
        ("export none --out x.onnx", "none/structure.json: no such file"),
        ("export none --out x.pth", "x.pth: the file must end in .onnx, .pt2, .safetensors\n"),
        ("export none --out x", "x: the file must end in .onnx, .pt2, .safetensors\n"),
        (
            "published --out config/config.yaml/x.csv",
            "config/config.yaml: cannot be created (File exists)",
        ),
        (
            "data --dataset synthetic --results config/config.yaml",
            "config/config.yaml/data: cannot",
        ),
        ("groups resnet21", "unknown network 'resnet21'; did you mean resnet32 or resnet20"),
        ("groups resnet20 --image 32", "--image: '32' is not of the form CxHxW"),
        ("groups resnet20 --grouped half", "--grouped: unknown value 'half' (allowed: auto, local"),
        (
            "groups no_such_module:net",
            "network no_such_module:net: no module 'no_such_module'; mod",
        ),
        ("groups torch.nn:Conf2d", "network torch.nn:Conf2d: unknown name in torch.nn 'Conf2d'"),
        ("groups torch.nn:Conv2d", "network 'torch.nn:Conv2d' cannot be built: "),
        ("groups builder:offline", "network 'builder:offline' cannot be built: <urlopen error no"),
        ("groups builder:silent", "network 'builder:silent' cannot be built: AssertionError\n"),
        ("groups builder:broken", "network 'builder:broken' cannot be built: size mismatch\n"),
        ("groups builder:scripted", "function 'halve' is in TorchScript, whose operations cannot"),
        ("groups failing:net", "network failing:net: failing cannot be imported: name 'nets'"),
        ("groups builder:WIDTH", "network builder:WIDTH: 8 is no function\n"),
        ("groups resnet20 --out n.png", "--out: n.png must end in .svg or .dot\n"),
        ("groups builtins:dict", "'builtins:dict' returns dict, not an nn.Module"),
        (
            "groups torchvision.models:squeezenet1_1 --image 3x4x4",
            "the network does not run on an input of [(1, 3, 4, 4)]: ",
        ),
    ],
)
def test_an_unknown_name_or_file_is_a_one_line_error(
    call: Any, write_config: WriteConfig, arguments: str, words: str
) -> None:
    write_config()
    Path("builder.py").write_text(BUILDERS, encoding="utf-8")
    Path("failing.py").write_text("nets.build()\n", encoding="utf-8")
    code, out, err = call(*arguments.split())
    assert (code, out) == (1, "")
    assert err.startswith(f"prunebench: {words}")
    assert err.count("\n") == 1


def test_a_base_network_needs_a_recipe_with_epochs(call: Any, write_config: WriteConfig) -> None:
    endless = {"batch_size": 64, "lr": 0.1, "weight_decay": 0}
    write_config(files={"recipes/endless.yaml": endless})
    arguments = "base --dataset synthetic --architecture resnet20 --recipe endless"
    _, _, err = call(*arguments.split())
    assert err == ("prunebench: --recipe: 'endless' has no epochs, but a base network needs them\n")


@pytest.mark.parametrize(
    ("arguments", "paths", "is_shared"),
    [
        ("--every", ["l1/default/0.25/seed0", "l1/default/0.5/seed0"], True),
        ("--every --ratio 0.5", ["l1/default/0.5/seed0"], True),
        ("--ratio 0.5", ["l1/default/0.5/seed0"], False),
    ],
)
def test_one_process_may_prune_at_every_ratio(
    call: Any,
    write_config: WriteConfig,
    monkeypatch: pytest.MonkeyPatch,
    arguments: str,
    paths: list[str],
    is_shared: bool,
) -> None:
    write_config({"ratios": [0.25, 0.5]})
    seen: list[tuple[str, Any]] = []

    def note(spec: RunSpec, results: Path, *, shared: Any = None, **_: Any) -> None:
        seen.append((spec.path.removeprefix("tiny/synthetic/resnet20_x0_25/"), shared))

    monkeypatch.setattr(train, "train_run", note)
    monkeypatch.setattr(several_runs, "train_run", note)
    assert call("prune", "--method", "l1", *arguments.split())[0] == 0
    assert [path for path, _ in seen] == paths
    assert len({id(shared) for _, shared in seen}) == 1
    assert (seen[0][1] is not None) == is_shared


def test_one_process_may_prune_the_runs_of_some_paths(
    call: Any, write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_config({"ratios": [0.25, 0.5]})
    seen: list[str] = []
    monkeypatch.setattr(
        several_runs, "train_run", lambda spec, results, **_: seen.append(spec.path)
    )
    paths = [f"tiny/synthetic/resnet20_x0_25/l1/default/{ratio}/seed0" for ratio in (0.5, 0.25)]
    assert call("prune", "--run", paths[0], "--run", paths[1])[0] == 0
    assert seen == paths


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", "--method: needed without --run; see `prunebench list methods`"),
        ("--run a/b --method l1", "--method: not allowed with --run"),
        ("--run a/b", "--run: 'a/b' is no run of this experiment"),
    ],
)
def test_a_choice_of_runs_that_makes_no_sense_is_refused(
    call: Any, write_config: WriteConfig, arguments: str, words: str
) -> None:
    write_config()
    assert call("prune", *arguments.split()) == (1, "", f"prunebench: {words}\n")


def test_resolve_prints_the_number_of_runs_and_the_file(
    call: Any, write_config: WriteConfig
) -> None:
    write_config()
    assert call("resolve") == (0, "2 runs · results/resolved/tiny.jsonl\n", "")
    assert Path("results/resolved/tiny.jsonl").is_file()


CROPPED = {**RECIPE, "epochs": 10, "augment": {"resized_crop": {}, "flip": True}}


def test_resolve_prints_how_a_recipe_is_adapted_to_other_data(
    call: Any, write_config: WriteConfig
) -> None:
    write_config(
        {"datasets": ["imagenet"], "recipes": {"base": "loaded", "fine_tune": "one_epoch"}},
        {
            "config.yaml": {"experiments": ["tiny"], "override": {"dataset": "digits"}},
            "recipes/loaded.yaml": {**CROPPED, "weights": "a.pt", "normalize": "imagenet"},
        },
    )
    assert call("resolve") == (
        0,
        "2 runs · results/resolved/tiny_on_digits.jsonl\n"
        "loaded_on_digits: augment {crop_padding: 1}, not {resized_crop: {}, flip: true}; "
        "normalize dataset, not imagenet; weights null, not a.pt\n",
        "",
    )


def test_a_base_network_is_trained_by_a_recipe_of_other_data(
    call: Any, write_config: WriteConfig
) -> None:
    write_config(files={"recipes/cropped.yaml": CROPPED})
    assert call("data", "--dataset", "synthetic")[1] == (
        "synthetic · results/data/synthetic.safetensors\n"
        "  images   480 train, 120 val, 200 test\n"
        "  classes  4 (horizontal_8, vertical_8, horizontal_4, vertical_4)\n"
        "  size     8x8, 3 channels\n"
        "  resize   none\n"
        "  crop     none\n"
    )
    arguments = ["base", "--dataset", "synthetic", "--architecture", "resnet20_x0_25", "--recipe"]
    _, _, err = call(*arguments, "cropped")
    assert "does not support resized_crop, random_crop or jitter" in err
    _, _, err = call(*arguments, "cropped_on_digits_x0_1")
    assert "the recipe 'cropped_on_digits_x0_1' is for digits, not for synthetic" in err
    code, _, err = call(*arguments, "cropped_on_synthetic_x0_1")
    assert code == 0, err
    training = Path(
        "results/base/synthetic/resnet20_x0_25/cropped_on_synthetic_x0_1/seed0/training.json"
    )
    recipe = json.loads(training.read_text(encoding="utf-8"))["spec"]["recipe"]
    assert (recipe["epochs"], recipe["augment"]["crop_padding"]) == (1, 1)


def test_crops_of_files_are_refused_for_a_folder_of_small_images(
    call: Any, write_config: WriteConfig
) -> None:
    write_config(files={"recipes/cropped.yaml": CROPPED})
    for name in ("train/a", "train/b", "test/a", "test/b"):
        for k in range(10):
            write_image(Path(f"data/tiny/{name}/{k}.png"), (90, 90, 90), (8, 8))
    assert call("data", "--dataset", "folder_tiny")[0] == 0
    architecture = ["--architecture", "resnet20_x0_25", "--recipe", "cropped"]
    code, _, err = call("base", "--dataset", "folder_tiny", *architecture)
    assert (code, err) == (
        1,
        "prunebench: folder_tiny does not support resized_crop, random_crop or jitter: its images "
        "are stored as tensors; supported are crop_padding, flip, lighting and cutout\n",
    )


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("methods", "l1                       one-shot, smallest mean |w| of a filter (Li et al.;"),
        ("networks", "resnet20                      any width"),
        ("networks", "retinanet_r18_fpn             detector, any width"),
        ("networks", "fcos_resnet50_fpn             detector, one width"),
        ("datasets", "cifar10                  CIFAR-10"),
        ("experiments", "tiny                     Stripes"),
        ("recipes", "one_epoch                1 epochs, batch 64, lr 0.1"),
    ],
)
def test_names_are_listed_with_a_description(
    call: Any, write_config: WriteConfig, what: str, line: str
) -> None:
    write_config()
    code, out, _ = call("list", what)
    assert code == 0
    assert any(listed.startswith(line) for listed in out.splitlines())


def test_without_a_kind_all_names_are_listed(call: Any, write_config: WriteConfig) -> None:
    write_config()
    _, out, _ = call("list")
    headings = [line for line in out.splitlines() if not line.startswith(" ")]
    assert headings == [
        "datasets:",
        "experiments:",
        "methods:",
        "networks:",
        "recipes:",
    ]


def test_options_are_listed_with_values_default_and_description(call: Any) -> None:
    code, out, _ = call("list", "options", "greg_1")
    assert code == 0
    lines = out.splitlines()
    at = lines.index("greg_1.ceiling = 1.0 (number > 0)")
    assert lines[at + 1].startswith("    Penalty lambda")
    assert {line.split(".")[0] for line in lines if line[0] != " "} == {"greg_1"}


def test_without_a_method_the_options_of_all_are_listed(call: Any) -> None:
    _, out, _ = call("list", "options")
    assert "recipe.lr = required (number > 0)" in out
    assert "l1.norm = mean (mean, sum)" in out
    assert "early_bird.criterion = {bn_scale: {" in out


def test_reference_writes_schemas_and_replaces_the_generated_tables(
    call: Any, tmp_path: Path
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("A\n<!-- generated: override -->\nold\n<!-- end -->\nZ\n", encoding="utf-8")
    code, _, _ = call("reference", "--schemas", str(tmp_path), "--readme", str(readme))
    assert code == 0
    assert json.loads((tmp_path / "recipe.schema.json").read_text())["title"] == "Recipe"
    lines = readme.read_text(encoding="utf-8").splitlines()
    assert lines[:3] == [
        "A",
        "<!-- generated: override -->",
        "| key | default | values | meaning |",
    ]
    assert lines[-2:] == ["<!-- end -->", "Z"]
    assert "old" not in lines


def run_without(modules: list[str], arguments: str) -> None:
    """Run the command line in another process that cannot import `modules`."""
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({modules}))\n"
        f"sys.argv = ['prunebench', *{arguments.split()}]\n"
        "from prunebench.__main__ import main; main()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_training_works_where_snakemake_fvcore_and_scikit_learn_are_not_installed(
    write_config: WriteConfig,
) -> None:
    write_config()
    prepare("synthetic", Path("data"), Path("results/data/synthetic.safetensors"))
    base = "base --dataset synthetic --architecture resnet20_x0_25 --recipe one_epoch"
    run_without(["snakemake", "fvcore", "sklearn"], "list methods")
    run_without(["snakemake", "fvcore", "sklearn"], f"{base} --device cpu")
    run_without(["snakemake", "fvcore", "sklearn"], "prune --method l1 --device cpu")
    run = Path("results/tiny/synthetic/resnet20_x0_25/l1/default/0.5/seed0")
    assert (run / "training.json").is_file()


def test_a_latency_table_is_written_and_its_fit_printed(
    call: Any, write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_config()

    def timer(passes: Sequence[object], images: object, repeats: int) -> list[list[float]]:
        return [[2.0] * repeats for _ in passes]

    monkeypatch.setattr(width_latencies, "timer_on", lambda device: timer)
    wanted = ["--architecture", "resnet20_x0_25", "--dataset", "synthetic", "--device", "cpu"]
    code, out, _ = call("latencies", *wanted, "--batch-size", "2", "--out", "own.json")
    table = LatencyTable.read(Path("own.json"))
    assert (code, table.batch_size, table.num_classes, table.image) == (0, 2, 4, (3, 8, 8))
    header, columns, whole, *copies = out.splitlines()
    assert header.startswith("resnet20_x0_25 · ")
    assert header.endswith(" · 1 threads · batch 2 · own.json")
    assert columns.split() == ["network", "measured", "predicted", "ms"]
    assert whole.split()[:2] == ["whole", "2"]
    assert len(copies) == len(table.networks) - 1 == 6


@pytest.mark.parametrize(
    "arguments", ["list networks", "list datasets", "list recipes", "list experiments", "--help"]
)
def test_commands_that_only_read_start_without_torch(
    write_config: WriteConfig, arguments: str
) -> None:
    write_config()
    run_without(["torch", "pandas", "snakemake"], arguments)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], {"workers": 3, "capture": False, "auto_accumulate": True, "check_base": True}),
        (
            ["--workers", "0", "--capture", "--no-auto-accumulate", "--no-check-base"],
            {"workers": 0, "capture": True, "auto_accumulate": False, "check_base": False},
        ),
        (
            ["--deterministic"],
            {"workers": 3, "capture": False, "auto_accumulate": True, "deterministic": True},
        ),
    ],
)
def test_machine_settings_are_configured_or_given(
    call: Any,
    write_config: WriteConfig,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    expected: dict[str, Any],
) -> None:
    folder = write_config()
    settings = {"workers": 3, "capture": False, "auto_accumulate": True, "data_dir": "here"}
    write_yaml(folder / "config.yaml", {"experiments": ["tiny"], **settings})
    seen: list[Machine] = []
    monkeypatch.setattr(
        "prunebench.training.train.train_base", lambda *_, machine, **__: seen.append(machine)
    )
    named = ["--dataset", "synthetic", "--architecture", "resnet20", "--recipe", "one_epoch"]
    code, _, err = call("base", *named, *options)
    assert (code, err) == (0, "")
    assert seen == [Machine(data_dir=Path("here"), **expected)]


def test_an_augmentation_for_image_files_is_refused_for_small_images(
    call: Any, write_config: WriteConfig
) -> None:
    write_config(
        {"datasets": ["digits"]}, {"recipes/one_epoch.yaml": {**RECIPE, "augment": {"jitter": 0.4}}}
    )
    code, _, err = call("resolve")
    assert code == 1
    assert (
        "one_epoch.yaml: augment: digits does not support resized_crop, random_crop or jitter"
        in err
    )


def test_a_dry_run_of_a_base_network_prints_the_matched_weights(
    call: Any, write_config: WriteConfig, tmp_path: Path
) -> None:
    import safetensors.torch

    from prunebench.models.registry import build

    state = build("resnet20_x0_25", num_classes=4).state_dict()
    renamed = {name.replace("fc.", "linear."): tensor for name, tensor in state.items()}
    (tmp_path / "data").mkdir(exist_ok=True)
    safetensors.torch.save_file(renamed, tmp_path / "data" / "theirs.safetensors")
    write_config(files={"recipes/given.yaml": {**RECIPE, "weights": "theirs.safetensors"}})
    arguments = ["--dataset", "synthetic", "--architecture", "resnet20_x0_25"]
    code, out, _ = call("base", *arguments, "--recipe", "given", "--dry-run")
    assert code == 0
    assert "linear.bias -> fc.bias\nlinear.weight -> fc.weight\n" in out
    assert out.endswith(f"{len(state)} tensors, 2 of them renamed\n")
    assert not (tmp_path / "results").exists()
    code, out, _ = call("base", *arguments, "--recipe", "one_epoch", "--dry-run")
    assert out.endswith("trained for 1 epochs; no weights are imported\n")


def test_figures_have_the_width_of_a_column_and_the_given_methods_in_color(
    call: Any, tmp_path: Path
) -> None:
    out = tmp_path / "figures"
    command = ("figures", "--runs-csv", str(DIGITS), "--out", str(out))
    code, _, err = call(*command, "--highlight", "gerg_1")
    assert code == 1
    assert "unknown method to highlight 'gerg_1'; did you mean greg_1?" in err
    code, _, err = call(*command, "--style", "poster")
    assert (code, err) == (
        1,
        "prunebench: --style: unknown value 'poster' (allowed: column, page)\n",
    )
    assert not out.exists()
    code, text, _ = call(*command, "--style", "column", "--highlight", "srfp")
    assert code == 0
    assert text.splitlines()[:3] == [
        str(out / f"accuracy_speedup.{suffix}") for suffix in ("svg", "png", "pdf")
    ]
    svg = (out / "accuracy_speedup.svg").read_text(encoding="utf-8")
    assert re.search(r'width="255\.1\d*pt"', svg)  # 90 mm


def test_ctrl_c_while_modules_are_imported_is_one_line(
    call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(arguments: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(forkserver, "run", interrupted)
    assert call("list") == (130, "", "prunebench: stopped\n")


@pytest.mark.parametrize("command", ["plan", "status", "prune", "measure", "collect", "additivity"])
def test_an_experiment_is_an_option_and_may_be_an_argument(
    command: str, write_config: WriteConfig, call: Any
) -> None:
    write_config()
    out = call(command, "--help")[1]
    assert out.split("\n")[0].strip() == f"Usage: prunebench {command} [OPTIONS]"
    assert "--experiment" in out
    more = ("--method", "l1") if command == "prune" else ()
    forms = (["nothing"], ["--experiment", "nothing"], ["nothing", "--experiment", "nothing"])
    errors = {call(command, *form, *more)[2] for form in forms}
    assert len(errors) == 1
    assert "nothing" in errors.pop()
    assert call(command, "other", "--experiment", "nothing", *more)[2] == (
        "prunebench: --experiment: other is given as well; choose one\n"
    )
