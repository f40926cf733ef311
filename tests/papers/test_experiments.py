"""The papers' experiments: pruned structures, lengths, and the printed rows they belong to."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import pytest
import torch

from prunebench import testing
from prunebench.channels.selections import select_groups
from prunebench.channels.trace.tracer import trace
from prunebench.data.registry import dataset_info
from prunebench.experiments.config import read_experiment
from prunebench.experiments.phases import Budget
from prunebench.experiments.spec import RunSpec
from prunebench.methods.epruner import EPruner, EPrunerOptions
from prunebench.methods.increg.penalty_table import IncRegOptions
from prunebench.methods.increg.to_ratios import IncReg
from prunebench.methods.registry import method_class
from prunebench.models.registry import build
from prunebench.papers.published import read_published, select
from prunebench.papers.reproduced import states
from prunebench.planning.grid import resolve_experiment
from tests.planning.conftest import complete

CONFIG = Path(__file__).parents[2] / "config"
GREG = (
    "greg_table1_resnet56",
    "greg_table1_vgg19",
    "greg_table2_resnet56",
    "greg_table2_vgg19",
)


@cache
def runs(experiment: str) -> tuple[RunSpec, ...]:
    return tuple(complete(r) for r in resolve_experiment(experiment, CONFIG))


def run_of(experiment: str, method: str, ratio: str) -> RunSpec:
    (found,) = (
        r
        for r in runs(experiment)
        if (r.method, r.path.split("/")[-2], r.seed) == (method, ratio, 0)
    )
    return found


@pytest.mark.parametrize(
    ("experiment", "ratio", "macs"),
    [
        ("greg_table1_resnet56", "0.7", 34_929_280),
        ("greg_table1_resnet56", "0.925", 8_258_176),
        ("greg_table1_vgg19", "0.9", 8_745_756),
        ("greg_table2_resnet56", "auto", 49_121_920),  # 2.5546 times fewer
        ("greg_table2_vgg19", "0.7", 44_784_324),
    ],
)
def test_pruned_network_has_the_papers_cost(experiment: str, ratio: str, macs: int) -> None:
    spec, greg = run_of(experiment, "l1", ratio), run_of(experiment, "greg_1", ratio)
    # GReg-1 takes the filters that L1 takes, and removes them later.
    assert (greg.budget, greg.options["layer_ratios"]) == (
        spec.budget,
        spec.options["layer_ratios"],
    )
    torch.manual_seed(0)
    classes = dataset_info(spec.dataset).num_classes
    run = testing.start(build(spec.architecture, num_classes=classes), image=(3, 32, 32))
    kind = method_class(spec.method)
    plan = kind(kind.Options.model_validate(spec.options)).select(run, spec.budget)
    kept = {name: run.sizes[name] - len(units) for name, units in plan.removed.items()}
    assert run.costs.macs(kept) == macs


@pytest.mark.parametrize(
    ("architecture", "setting", "macs"),
    [
        ("resnet34", "default", 2_782_269_440),
        ("resnet50", "x1.49", 2_745_566_232),
        ("resnet50", "x2.31", 1_771_649_680),
        ("resnet50", "x2.56", 1_594_769_872),
        ("resnet50", "x3.06", 1_334_871_128),
    ],
)
def test_pruned_network_on_imagenet_has_the_papers_cost(
    architecture: str, setting: str, macs: int
) -> None:
    specs = {r.method: r for r in runs(f"greg_table3_{architecture}") if r.setting == setting}
    ratios = specs["l1"].options["layer_ratios"]
    assert [specs[m].options["layer_ratios"] for m in ("greg_1", "greg_2")] == [ratios] * 2
    run = testing.start(build(architecture, num_classes=1000), image=(3, 224, 224))
    kind = method_class("l1")
    plan = kind(kind.Options.model_validate(specs["l1"].options)).select(run, specs["l1"].budget)
    kept = {name: run.sizes[name] - len(units) for name, units in plan.removed.items()}
    assert run.costs.macs(kept) == macs


def test_single_weights_leave_every_layer_but_the_stem() -> None:
    (spec,) = (r for r in runs("greg_table4_resnet50") if r.method == "l1")
    run = testing.start(build("resnet50", num_classes=1000), image=(3, 64, 64))
    kind = method_class("l1")
    plan = kind(kind.Options.model_validate(spec.options)).select(run, spec.budget)
    zeroed = sum(int((~mask).sum()) for mask in plan.zeroed.values())
    weights = sum(mask.numel() for mask in plan.zeroed.values())
    # 52 convolutions and the classifier; ceil(0.827 n) of each
    assert (len(plan.zeroed), "conv1.weight" in plan.zeroed) == (53, False)
    assert (zeroed, weights) == (21_083_162, 25_493_504)


def test_greg_starts_from_torchvision_s_weights_on_imagenet() -> None:
    for architecture, top1 in (("resnet34", 73.31), ("resnet50", 76.13)):
        spec = next(r for r in runs(f"greg_table3_{architecture}") if r.method == "greg_2")
        depth = architecture.removeprefix("resnet")
        assert spec.base.recipe.weights == f"ResNet{depth}_Weights.IMAGENET1K_V1"
        assert spec.base.recipe.expected_top1 == top1
        assert (spec.options["interval_steps"], spec.options["stabilize_steps"]) == (5, 40_000)
        assert spec.recipes["regularize"].batch_size == 64
        assert spec.recipes["fine_tune"].schedule.milestones == (30, 60, 75)


@pytest.mark.parametrize(
    ("experiment", "batch"), [("greg_table1_resnet56", 128), ("greg_table1_vgg19", 256)]
)
def test_greg_is_trained_as_its_readme_says(experiment: str, batch: int) -> None:
    spec = runs(experiment)[-1]
    base, regularize = spec.base.recipe, spec.recipes["regularize"]
    fine_tune = spec.recipes["fine_tune"]
    assert [r.batch_size for r in (base, regularize, fine_tune)] == [batch] * 3
    assert [r.lr for r in (base, regularize, fine_tune)] == [0.1, 1e-3, 0.01]
    assert [r.epochs for r in (base, regularize, fine_tune)] == [200, None, 120]
    assert [r.weight_decay for r in (base, regularize, fine_tune)] == [5e-4] * 3
    assert base.schedule.milestones == (100, 150)
    assert fine_tune.schedule.milestones == (60, 90)
    assert regularize.lr_at(250, None) == 1e-3
    assert (spec.options["interval_steps"], spec.options["stabilize_steps"]) == (10, 10_000)


@pytest.mark.parametrize("experiment", GREG)
def test_every_printed_row_of_a_method_has_its_runs(experiment: str) -> None:
    config = read_experiment(CONFIG, experiment)
    assert config.published is not None
    named = {value.split("/")[0] for value in config.published.rows.values()}
    printed = [
        row
        for row in select(read_published(), paper="greg", table=config.published.table)
        if row.architecture in config.networks and row.method in named
    ]
    cells = {(r.method, r.ratio) for r in runs(experiment) if r.method in config.published.rows}
    assert len(printed) == len(cells) > 0
    if config.published.table == "Table 1":
        assert {(row.method, float(row.ratio_printed or 0) / 100) for row in printed} == cells


EPRUNER = ("googlenet", "resnet110", "resnet56", "vgg16")


@pytest.mark.parametrize(
    ("network", "options"),
    [
        ("vgg16", {"beta": 0.73, "reset_all": True}),
        ("googlenet", {"beta": 0.65, "layer_betas": {}, "reset_all": False}),
        ("resnet56", {"beta": 0.76, "layer_betas": {}, "reset_all": False}),
        ("resnet110", {"beta": 0.6, "layer_betas": {}, "reset_all": False}),
    ],
)
def test_epruner_has_its_readme_s_beta(network: str, options: dict[str, object]) -> None:
    specs = [r for r in runs(f"epruner_cifar10_{network}") if r.method == "epruner"]
    assert {r.options["initialization"] for r in specs} == {
        "centroids",
        "random",
        "random_project",
    }
    for spec in specs:
        assert {name: spec.options[name] for name in options} == options


@pytest.mark.parametrize(
    ("network", "groups"), [("vgg16", 13), ("googlenet", 27), ("resnet56", 27), ("resnet110", 54)]
)
def test_epruner_clusters_the_layers_of_its_code(network: str, groups: int) -> None:
    specs = runs(f"epruner_cifar10_{network}")
    with torch.random.fork_rng():
        graph = trace(build(network, num_classes=10), torch.zeros(1, 3, 32, 32))
    roles = {r.method: tuple(r.options["roles"]) for r in specs if r.method != "unpruned"}
    assert len(select_groups(graph, roles["epruner"])) == groups
    assert set(roles.values()) == {roles["epruner"]}  # the controls prune the same layers


@pytest.mark.parametrize("network", EPRUNER)
def test_epruner_is_trained_as_its_readme_says(network: str) -> None:
    spec = next(r for r in runs(f"epruner_cifar10_{network}") if r.method == "epruner")
    recipe = spec.recipes["fine_tune"]
    assert (recipe.epochs, recipe.batch_size, recipe.lr) == (150, 256, 0.01)
    assert (recipe.weight_decay, recipe.schedule.milestones) == (5e-3, (50, 100))
    assert recipe.normalize == spec.base.recipe.normalize == "epruner_cifar10"
    config = read_experiment(CONFIG, f"epruner_cifar10_{network}")
    assert config.published is not None
    printed = select(
        read_published(), paper="epruner", table=config.published.table, architecture=network
    )
    named = {f"{row.method}/{row.setting}" for row in printed}
    assert set(config.published.rows.values()) == named


def test_the_soft_family_is_trained_as_sfp_s_scripts_say() -> None:
    specs = [r for r in runs("srfp_cifar10") if "base" in r.recipes]
    recipe = specs[0].recipes["base"]
    assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.nesterov) == (200, 128, 0.1, True)
    # 0.1 times 0.2 at epochs 60, 120 and 160
    assert [round(recipe.lr_at(e, 200), 6) for e in (59, 60, 120, 160)] == [0.1, 0.02, 0.004, 8e-4]


EPRUNER_IMAGENET = {  # beta, layers, those with a beta of their own and which beta that is
    "resnet18": (0.73, 8, 2, 0.86),
    "resnet34": (0.75, 16, 2, 0.92),
    "resnet50": (0.73, 32, 3, 0.85),
    "resnet101": (0.67, 66, 5, 0.92),
    "resnet152": (0.63, 100, 5, 0.92),
}


@pytest.mark.parametrize("network", EPRUNER_IMAGENET)
def test_epruner_s_deep_blocks_have_the_beta_of_its_code(network: str) -> None:
    beta, count, deep, beta_deep = EPRUNER_IMAGENET[network]
    spec = next(r for r in runs(f"epruner_imagenet_{network}") if r.method == "epruner")
    with torch.random.fork_rng():
        run = testing.start(build(f"{network}_x0_0625", num_classes=10), image=(3, 32, 32))
    method = EPruner(EPrunerOptions(**spec.options))
    betas = {name: method.beta_of(name) for name in method.candidates(run)}
    assert len(betas) == count
    own = [name for name, found in betas.items() if found == beta_deep]
    assert len(own) == deep
    # the last blocks; of a bottleneck's two layers the 3x3 alone
    assert own == list(betas)[-deep:] if count <= 16 else own == list(betas)[1::2][-deep:]
    assert set(betas.values()) == {beta, beta_deep}


def test_epruner_s_old_readme_has_both_layers_of_a_bottleneck_at_beta_0_7_alone() -> None:
    specs = runs("epruner_imagenet_resnet50_7c8453c")
    betas = {r.options["beta"]: r.options["layer_betas"] for r in specs if r.method == "epruner"}
    deep = {"stages.3.*.conv2": 0.85}
    assert betas == {0.7: {"stages.3.*": 0.85}, 0.71: deep, 0.81: deep, 0.85: deep}


@pytest.mark.parametrize("network", EPRUNER_IMAGENET)
def test_epruner_is_trained_on_imagenet_as_its_code_does(network: str) -> None:
    spec = next(r for r in runs(f"epruner_imagenet_{network}") if r.method == "epruner")
    recipe = spec.recipes["fine_tune"]
    assert (recipe.epochs, recipe.batch_size, recipe.weight_decay) == (90, 256, 1e-4)
    found = [round(recipe.lr_at(e, 90), 6) for e in (0, 2.5, 5, 29, 30, 60, 79, 80)]
    assert found == [0, 0.05, 0.1, 0.1, 0.01, 0.001, 0.001, 0.0001]


@pytest.mark.parametrize(
    ("table", "rows"), [("README: ImageNet", 18), ("README @ 7c8453c: ImageNet", 6)]
)
def test_each_of_epruner_s_own_rows_on_imagenet_has_its_experiment(
    table: str, rows: int, tmp_path: Path
) -> None:
    printed = select(read_published(), paper="epruner", table=table)
    found = [state.experiment for state in states(printed, CONFIG, tmp_path)]
    assert len(found) == rows
    assert all(found)


def increg_listed(experiment: str) -> RunSpec:
    return next(r for r in runs(experiment) if (r.method, r.setting) == ("increg", "listed"))


@pytest.mark.parametrize(
    ("experiment", "network", "layers"),
    [
        ("increg_cifar10_convnet", "convnet", 3),
        ("increg_readme_vgg16", "vgg16_imagenet_x0_125", 12),
        ("increg_readme_resnet50", "resnet50_caffe_x0_125", 53),
    ],
)
def test_increg_s_list_has_a_ratio_for_each_layer(
    experiment: str, network: str, layers: int
) -> None:
    options = IncRegOptions(**increg_listed(experiment).options)
    with torch.random.fork_rng():
        run = testing.start(build(network, num_classes=10), image=(3, 32, 32))
    paths = list(IncReg(options).layers(run))
    assert not isinstance(options.layer_rule, str)
    fitting = {p: [n for n in paths if fnmatchcase(n, p)] for p in options.layer_rule}
    assert len(paths) == layers
    assert sorted(fitting.values()) == sorted([path] for path in paths)


def test_increg_s_list_for_resnet50_saves_half_of_the_convolutions() -> None:
    options = IncRegOptions(**increg_listed("increg_readme_resnet50").options)
    with torch.random.fork_rng():
        network = build("resnet50_caffe", num_classes=10)
    run = testing.start(network, image=(3, 224, 224))
    method = IncReg(options)
    half = Budget(kind="macs", ratio=0.5)
    shares = method.shares_for(run, method.layers(run), half)
    # a factor of 1.00002 is left of rounding to four digits
    assert shares == pytest.approx(options.layer_rule, abs=3e-5)


@pytest.mark.parametrize(
    ("experiment", "steps"), [("increg_cifar10_convnet", 10_000), ("increg_readme_vgg16", 24_521)]
)
def test_increg_s_lowest_column_leaves_when_it_meets_the_ceiling(
    experiment: str, steps: int
) -> None:
    spec = increg_listed(experiment)
    prune, base = spec.recipes["regularize"], spec.base.recipe
    method = IncReg(IncRegOptions(**spec.options))
    # min(m(0.2) x 5, 10) / 1e-3, and m(0.2) x 2.5 / 2.5e-4 with m(0.2) = 2.452036
    assert method.hold(prune, 0.2) == steps
    assert prune.lr == pytest.approx(base.lr / 20)


def test_each_of_increg_s_own_rows_has_its_experiment(tmp_path: Path) -> None:
    own = select(read_published(), paper="increg", own_only=True)
    printed = [row for row in own if row.method != "baseline"]
    assert [state.experiment for state in states(printed, CONFIG, tmp_path)] == [
        "increg_readme_vgg16",
        "increg_readme_resnet50",
        *["increg_abstract"] * 3,
    ]
