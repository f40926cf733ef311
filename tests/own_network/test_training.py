"""Methods that train, and fine-tuning, on a loader of the user."""

from __future__ import annotations

import copy
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import prunebench as pb
from prunebench.core.errors import ConfigError, DataError, RunStoppedError, TrainingError
from prunebench.methods.base import Method
from prunebench.methods.registry import METHODS, method_class
from prunebench.network import load_masks
from tests.own_network.own_networks import batches, classifier, images, unet, unet_inputs

FRESH = {"early_bird", "orthoreg", "scratch_b", "scratch_e", "uniform_width"}  # not from a network
ZEROING = {"increg", "increg_accuracy", "l1_columns"}  # weights become zero, none is removed
TRAINED = sorted(METHODS.keys() - FRESH - ZEROING - {"unpruned"})
OPTIONS = {
    "group_fisher": {"interval_steps": 1},
    "slimming": {"keep": ["conv", "head.0"]},  # they have no batch norm
    "srfp": {"scope": "group"},
    "asrfp": {"scope": "group"},
    "sfp": {"scope": "group"},
    "asfp": {"scope": "group"},
    "soft_fpgm": {"scope": "group"},
}


def labeled(count: int = 8, size: int = 4) -> list[tuple[Tensor, Tensor]]:
    """Batches whose labels can be learned: the brightest of the first three channels."""
    found = []
    for batch, _ in batches(count, size):
        labels = torch.arange(len(batch)) % 3
        batch[torch.arange(len(batch)), labels] += 1
        found.append((batch, labels))
    return found


@pytest.mark.parametrize("method", TRAINED)
def test_every_method_that_starts_from_a_network_trains_on_a_loader(method: str) -> None:
    model = classifier()
    before = copy.deepcopy(model.state_dict())
    result = pb.prune(
        model, images(), method=method, ratio=0.3, data=labeled(), epochs=8, quiet=True,
        **OPTIONS.get(method, {}),
    )  # fmt: skip
    assert result.achieved >= 0.29
    assert result.deviation < 1e-12
    assert result.history["phase"].size
    assert not result.model.training
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())


@pytest.mark.parametrize("method", sorted(FRESH))
def test_a_method_that_starts_from_fresh_weights_is_refused(method: str) -> None:
    with pytest.raises(ConfigError, match=f"{method} starts from fresh weights"):
        pb.prune(classifier(), images(), method=method, ratio=0.3, data=labeled(), epochs=2)


def test_weights_that_a_method_zeroes_stay_and_are_told(tmp_path: Path) -> None:
    result = pb.prune(
        classifier(), images(), method="increg", ratio=0.3, ratio_kind="units_per_group",
        data=labeled(), epochs=20, quiet=True, A=1.0, ceiling=2, ceiling_factor="none",
        loss_eval_steps=0, roles=["conv*"],
    )  # fmt: skip
    (name, mask) = next(iter(result.masks.items()))
    assert not result.model.state_dict()[name][~mask].any()
    assert "weights are zero but not removed" in str(result)
    result.save(tmp_path)
    assert (pb.load(tmp_path, model=classifier()).get_parameter(name)[~mask] == 0).all()


def test_zeroed_weights_that_are_trained_again_are_not_stored_as_zeros(tmp_path: Path) -> None:
    result = pb.prune(classifier(), images(), ratio=0.3)
    weight = result.model.get_parameter("head.0.weight")
    result = replace(
        result, masks={"head.0.weight": torch.arange(weight.numel()).view_as(weight) > 1}
    )
    with torch.no_grad():
        weight.view(-1)[:2] = torch.tensor([0.0, 0.5])
    assert "  1 weights are zero but not removed" in str(result)
    result.save(tmp_path)
    assert (~load_masks(tmp_path)["head.0.weight"]).nonzero().tolist() == [[0, 0]]


def test_a_method_fits_into_the_epochs() -> None:
    result = pb.prune(
        classifier(), images(), method="greg_1", ratio=0.3, data=labeled(), epochs=20, quiet=True
    )
    steps = result.history.groupby("phase", sort=False)["step"].max()
    assert list(steps.index) == ["regularize", "stabilize", "fine_tune"]
    assert steps.sum() == 20 * 8
    assert steps["regularize"] + steps["stabilize"] <= 82  # about half, with 10 steps an update


def test_lengths_that_are_given_stay() -> None:
    result = pb.prune(
        classifier(), images(), method="greg_1", ratio=0.3, data=labeled(), epochs=4, quiet=True,
        delta=0.5, interval_steps=2, stabilize_steps=6, ratio_stop=None,
    )  # fmt: skip
    steps = result.history.groupby("phase", sort=False)["step"].max()
    assert steps.tolist() == [4, 7, 32 - 4 - 7]
    with pytest.raises(ConfigError, match=r"greg_1: pruning takes 10\d+ steps"):
        pb.prune(
            classifier(), images(), method="greg_1", ratio=0.3, data=labeled(), epochs=4,
            stabilize_steps=10_000,
        )  # fmt: skip


def test_a_criterion_with_epochs_fine_tunes_after_the_removal() -> None:
    result = pb.prune(
        classifier(), images(), ratio=0.5, data=labeled(), epochs=6, lr=0.05, quiet=True
    )
    plain = pb.prune(classifier(), images(), ratio=0.5)
    assert result.history["phase"].tolist() == ["fine_tune"] * 6
    assert torch.equal(result.groups[0].kept, plain.groups[0].kept)
    loss = result.history["loss"]
    assert loss.iloc[-1] < 0.8 * loss.iloc[0]


def test_the_criterion_of_a_method() -> None:
    result = pb.prune(
        classifier(), images(), method="orthoreg_from_base", criterion="taylor", ratio=0.3,
        data=labeled(), epochs=4, quiet=True,
    )  # fmt: skip
    assert result.achieved >= 0.3
    with pytest.raises(ConfigError, match="greg_1 has its own importance score; remove 'taylor'"):
        pb.prune(classifier(), images(), method="greg_1", criterion="taylor", ratio=0.3)


def test_two_inputs_and_a_loss_of_ones_own() -> None:
    def loss(outputs: tuple[Tensor, Tensor], target: dict[str, Tensor]) -> Tensor:
        return (outputs[0] - target["mask"]).square().mean() + outputs[1].square().mean()

    target = {"mask": torch.ones(4, 2, 16, 16)}
    data = [(unet_inputs(4), target) for _ in range(4)]
    result = pb.prune(
        unet(), unet_inputs(), method="group_fisher", ratio=0.2, data=data, loss=loss, epochs=30,
        interval_steps=1, quiet=True,
    )  # fmt: skip
    assert result.achieved >= 0.2
    assert result.history["loss"].iloc[-1] < result.history["loss"].iloc[0]
    assert result.history["accuracy"].isna().all()


def test_parameters_without_gradient_stay() -> None:
    model = classifier()
    model.stem.weight.requires_grad_(False)
    pruned = pb.prune(
        model, images(), ratios={"conv": 0.5}, data=labeled(), epochs=2, quiet=True
    ).model
    assert torch.equal(pruned.stem.weight, model.stem.weight)
    assert not pruned.stem.weight.requires_grad
    assert not torch.equal(pruned.norm.weight, model.norm.weight)


# --- fine-tuning
def test_finetune_trains_in_place_and_returns_the_epochs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = classifier()
    data = TensorDataset(*(torch.cat(part) for part in zip(*labeled(), strict=True)))
    loader = DataLoader(data, batch_size=10, shuffle=True)  # the last batch has two images
    before = model.stem.weight.clone()
    history = pb.finetune(model, loader, epochs=8, lr=0.1, recipe={"momentum": 0.8})
    assert not torch.equal(model.stem.weight, before)
    assert not model.training
    assert history["epoch"].tolist() == list(range(1, 9))
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
    assert history["accuracy"].iloc[-1] > 60
    assert "fine_tune  epoch   8 · step 32/32 · loss" in capsys.readouterr().out


def test_the_same_seed_trains_the_same_network() -> None:
    data = TensorDataset(*(torch.cat(part) for part in zip(*labeled(), strict=True)))
    weights = []
    for seed in (0, 0, 1):
        model = classifier()
        loader = DataLoader(data, batch_size=8, shuffle=True)
        pb.finetune(model, loader, epochs=1, seed=seed, quiet=True)
        weights.append(model.stem.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_it_is_the_training_of_pytorch() -> None:
    model, other = classifier(), classifier()
    recipe = {"schedule": {}, "weight_decay": 0.01, "momentum": 0.5}
    pb.finetune(model, labeled(2), epochs=2, lr=0.1, recipe=recipe, quiet=True)
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.5, weight_decay=0.01)
    for _ in range(2):
        for inputs, labels in labeled(2):
            optimizer.zero_grad()
            nn.functional.cross_entropy(other.train()(inputs), labels).backward()
            optimizer.step()
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b)


class Stops:
    """A loader that sends a signal to this process in its third pass."""

    def __init__(self, passes: int) -> None:
        self.passes = passes

    def __len__(self) -> int:
        return 8

    def __iter__(self):
        self.passes -= 1
        for number, batch in enumerate(labeled()):
            if self.passes == 0 and number == 4:
                os.kill(os.getpid(), signal.SIGINT)
            yield batch


def test_a_stopped_run_goes_on_from_its_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Passes: one batch for the size, another for the form, then two and a half epochs.
    model, loader = classifier(), Stops(passes=5)
    with pytest.raises(RunStoppedError, match="signal 2 in phase fine_tune before step 21"):
        pb.finetune(model, loader, epochs=4, checkpoint=tmp_path)
    assert (tmp_path / "resume.pt").exists()
    history = pb.finetune(model, loader, epochs=4, checkpoint=tmp_path)
    out = capsys.readouterr().out
    assert "continues in phase fine_tune at step 21" in out
    assert "not bit for bit" in out
    assert history["step"].tolist() == [8, 16, 24, 32]
    assert list(tmp_path.iterdir()) == []


def test_a_method_goes_on_after_its_removal(tmp_path: Path) -> None:
    """The smaller network and the units that are left come from the checkpoint."""
    arguments = {"method": "greg_1", "ratio": 0.3, "epochs": 6, "quiet": True}
    loader = Stops(passes=2 + 4)  # one pass for the size, then in the fifth of six epochs
    with pytest.raises(RunStoppedError, match="in phase fine_tune before step"):
        pb.prune(classifier(), images(), data=loader, checkpoint=tmp_path, **arguments)
    result = pb.prune(classifier(), images(), data=loader, checkpoint=tmp_path, **arguments)
    whole = pb.prune(classifier(), images(), data=labeled(), **arguments)
    assert result.history["step"].tolist() == whole.history["step"].tolist()
    assert (result.macs, result.deviation) == (whole.macs, whole.deviation)
    assert [g.kept.tolist() for g in result.groups] == [g.kept.tolist() for g in whole.groups]
    assert list(tmp_path.iterdir()) == []


def test_a_last_batch_of_one_image_is_named() -> None:
    data = [*labeled(2), (images(1), torch.zeros(1, dtype=torch.int64))]
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.BatchNorm1d(8), nn.Linear(8, 4))
    with pytest.raises(DataError, match=r"a batch has one image.*drop_last=True"):
        pb.finetune(model, data, epochs=1, quiet=True)


def test_a_checkpoint_of_another_call_is_set_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RunStoppedError):
        pb.finetune(classifier(), Stops(passes=5), epochs=4, checkpoint=tmp_path, quiet=True)
    pb.finetune(classifier(), labeled(), epochs=3, checkpoint=tmp_path)
    assert "belongs to another specification; set aside" in capsys.readouterr().out


class NoLength:
    def __iter__(self):
        return iter(labeled())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"epochs": 0}, ConfigError, "epochs: 0 is not a whole number of at least 1"),
        ({"epochs": 1.5}, ConfigError, r"epochs: 1\.5 is not a whole number"),
        (
            {"recipe": {"momentun": 0.9}},
            ConfigError,
            "unknown key 'momentun'; did you mean",
        ),
        ({"recipe": {"augment": {}}}, ConfigError, "recipe: unknown key 'augment'"),
        ({"recipe": {"momentum": 2}}, ConfigError, "recipe: momentum: must be below 1.0, not 2"),
        ({"lr": 0}, ConfigError, "recipe: lr: must be above 0"),
        ({"loader": NoLength()}, DataError, r"give the loader a length \(__len__\)"),
        ({"loader": []}, DataError, "the loader has no batch"),
        ({"loader": iter(labeled())}, DataError, "a generator can be read only once"),
        ({"loader": labeled(2, size=1)}, ConfigError, "recipe: batch_size: must be at least 2"),
        ({"lr": 1e30}, TrainingError, "the loss is nan; a smaller learning rate"),
    ],
)
def test_a_mistake_is_one_line(arguments, error, message: str) -> None:
    given = {"loader": labeled(2), "epochs": 2, "quiet": True, **arguments}
    with pytest.raises(error, match=message) as raised:
        pb.finetune(classifier(), **given)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "greg_1"}, "greg_1 trains: give data=, a loader, and epochs="),
        ({"method": "greg_1", "epochs": 3}, "epochs: training needs data="),
        ({"method": "gerg_1"}, "unknown method 'gerg_1'; did you mean greg_1"),
        (
            {"method": "group_fisher", "ratio_kind": "units_per_group"},
            "unknown ratio_kind of",
        ),
        ({"method": "group_fisher", "round_to": 8}, "group_fisher cannot round widths"),
        ({"method": "unpruned"}, r"ratio: unpruned allows 0\.0, not 0\.5"),
        (
            {"epochs": 1, "data": labeled(1), "max_drop": 1, "evaluate": Method},
            "max_drop: it compares networks without training",
        ),
    ],
)
def test_a_mistake_of_a_method_is_one_line(arguments, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        pb.prune(classifier(), images(), ratio=0.5, **arguments)
    assert "\n" not in str(raised.value)


def test_every_trained_method_is_known() -> None:
    assert all(method_class(name).recipe_roles for name in TRAINED)
