from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunebench.channels.groups import Member
from prunebench.channels.trace.tracer import trace
from prunebench.core.errors import ModelError
from prunebench.criteria.masks import MaskGradients, input_channels, places, readers
from prunebench.testing import named_layers


class Everything(nn.Module):
    """A stream through a depthwise and a grouped convolution, a head shared by two levels."""

    gates = (  # layer, group, channels of the layer's input that each unit has
        ("depthwise", "stem", [[0], [1], [2], [3]]),
        ("point", "stem", [[0], [1], [2], [3]]),
        ("grouped", "point", [[0, 1], [2, 3], [4, 5]]),
        ("project", "point", [[0, 1], [2, 3], [4, 5]]),
        ("head", "stem", [[0], [1], [2], [3]]),
        ("fc_large", "head", [list(range(16)), list(range(16, 32))]),
        ("fc_small", "head", [list(range(4)), list(range(4, 8))]),
    )

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 1)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.point = nn.Conv2d(4, 6, 1)
        self.grouped = nn.Conv2d(6, 6, 3, padding=1, groups=3)
        self.project = nn.Conv2d(6, 4, 1)
        self.head = nn.Conv2d(4, 2, 3, padding=1)
        self.fc_large = nn.Linear(32, 3)
        self.fc_small = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).sigmoid()
        y = self.point(self.depthwise(x).sigmoid()).sigmoid()
        x = x + self.project(self.grouped(y).sigmoid())
        large = self.head(x).sigmoid().flatten(1)
        small = self.head(nn.functional.avg_pool2d(x, 2)).sigmoid().flatten(1)
        return self.fc_large(large) + self.fc_small(small)


class SameChannelOfEachGroup(nn.Module):
    """Two groups of three channels, so that units lie across them; and a concatenation."""

    gates = (
        ("grouped", "stem", [[0, 3], [1, 4], [2, 5]]),
        ("side", "stem", [[0, 3], [1, 4], [2, 5]]),
        ("head", "grouped", [[0, 2], [1, 3]]),
        ("head", "side", [[4], [5], [6]]),
    )

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 1)
        self.grouped = nn.Conv2d(6, 4, 3, padding=1, groups=2)
        self.side = nn.Conv2d(6, 3, 3, padding=1)
        self.head = nn.Conv2d(7, 3, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).sigmoid()
        return self.head(torch.cat([self.grouped(x), self.side(x)], 1).sigmoid()).flatten(1)


def watched(model: nn.Module, example: Tensor, batch: int) -> MaskGradients:
    """Watch all readers of all groups."""
    groups = trace(model, example).groups
    gradients = MaskGradients(model, groups, {n: readers(g) for n, g in groups.items()}, batch)
    gradients.watch()
    return gradients


def gate_gradients(model: Any, x: Tensor, labels: Tensor, units: dict[str, slice]) -> Tensor:
    """Return (images, units): of gates that are multiplied in, image by image."""
    total, rows = max(place.stop for place in units.values()), []
    for image, label in zip(x, labels, strict=True):
        gate = torch.ones(total, dtype=x.dtype, requires_grad=True)
        factors = torch.cat([gate, gate.new_ones(1)])  # the last is for channels without a unit

        def multiply(layer: Any, args: Any, path: str, factors: Tensor = factors) -> Tensor:
            c = args[0].shape[1]
            which = [total] * c
            for _, group, channels in (entry for entry in model.gates if entry[0] == path):
                for unit, own in enumerate(channels):
                    for channel in own:
                        which[channel] = units[group].start + unit
            return args[0] * factors[which].view(1, c, *[1] * (args[0].ndim - 2))

        handles = [
            model.get_submodule(path).register_forward_pre_hook(
                lambda layer, args, path=path, multiply=multiply: multiply(layer, args, path)
            )
            for path in dict.fromkeys(entry[0] for entry in model.gates)
        ]
        nn.functional.cross_entropy(model(image[None]), label[None]).backward()
        for handle in handles:
            handle.remove()
        rows.append(gate.grad)
    return torch.stack(rows)


@pytest.mark.parametrize("kind", [Everything, SameChannelOfEachGroup])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_score_is_that_of_gates_multiplied_in(kind: type[nn.Module], layout: Any) -> None:
    torch.manual_seed(0)
    model = kind().double().to(memory_format=layout)
    x = torch.randn(5, 2, 4, 4, dtype=torch.float64).contiguous(memory_format=layout)
    labels = torch.tensor([0, 1, 2, 1, 0])
    units = places(trace(model, x[:1]).groups)
    expected = gate_gradients(model, x, labels, units)
    gradients = watched(model, x[:1], batch=8)
    score = torch.zeros(expected.shape[1], dtype=torch.float64)
    for batch in (slice(0, 3), slice(3, 5)):  # a last batch is smaller
        nn.functional.cross_entropy(model(x[batch]), labels[batch]).backward()
        assert torch.allclose(
            gradients.table[: len(labels[batch])] * len(labels[batch]), expected[batch], rtol=1e-12
        )
        score += gradients.squares() * len(labels[batch]) ** 2
    assert torch.allclose(score, expected.square().sum(0), rtol=1e-12)
    assert expected.abs().min() > 1e-8  # no gate is without effect
    assert gradients.table.eq(0).all()


def test_parts_of_a_batch_fill_rows_that_follow_each_other() -> None:
    torch.manual_seed(0)
    model = Everything().double()
    x, labels = torch.randn(5, 2, 4, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 1, 0])
    gradients = watched(model, x[:1], batch=5)
    found = []
    for parts in ([slice(0, 5)], [slice(0, 2), slice(2, 5)]):
        for part in parts:
            with torch.no_grad():
                model(x[:3])  # evaluation in between takes no rows
            loss = nn.functional.cross_entropy(model(x[part]), labels[part], reduction="sum")
            (loss / len(x)).backward()
        found.append((gradients.table.clone(), gradients.squares()))
    (whole, squares), (parted, parted_squares) = found
    torch.testing.assert_close(parted, whole)
    torch.testing.assert_close(parted_squares, squares)


def test_several_rows_of_an_image_are_added_up() -> None:
    # two regions of an image, each a row of the linear layer: weights 1 and 2, inputs below
    class Regions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.first(x.flatten(0, 1)))

    model, x = Regions(), torch.tensor([[[1.0, 2], [3, 4]], [[5, 6], [7, 8]]])
    with torch.no_grad():
        model.first.weight.copy_(torch.eye(2))
        model.last.weight.copy_(torch.tensor([[1.0, 2]]))
    gradients = watched(model, x, batch=2)
    model(x).sum().backward()
    assert gradients.table.tolist() == [[1 + 3, 2 * (2 + 4)], [5 + 7, 2 * (6 + 8)]]


def test_images_may_have_different_numbers_of_rows() -> None:
    # rows 1 and 2 belong to the second image, row 0 to the first, none to the third; the same model
    # runs the first layer on images, while no rows are told
    class Regions(nn.Module):
        row_images: Tensor | None = None

        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False)

        def forward(self, x: Tensor, sampled: list[int] | None = None) -> Tensor:
            rows = self.first(x)
            if sampled is not None:
                rows, self.row_images = rows[sampled], torch.tensor(sampled)
            found = self.last(rows)
            self.row_images = None
            return found

    model, x = Regions(), torch.tensor([[1.0, 2], [3, 4], [5, 6]])
    with torch.no_grad():
        model.first.weight.copy_(torch.eye(2))
        model.last.weight.copy_(torch.tensor([[1.0, 2]]))
    gradients = watched(model, x, batch=6)
    model(x, [0, 1, 1]).sum().backward()  # as many rows as images
    assert gradients.table[:3].tolist() == [[1, 2 * 2], [2 * 3, 2 * 2 * 4], [0, 0]]
    model(x, [2]).sum().backward()  # the next part of the batch
    assert gradients.table[3:].tolist() == [[0, 0], [0, 0], [5, 2 * 6]]


@pytest.mark.parametrize(
    ("layer", "member", "channels"),
    [
        (nn.Conv2d(2, 3, 1), Member(("w",), 1, "in", torch.tensor([[0], [1]])), [[0], [1]]),
        (
            nn.Linear(4, 1),
            Member(("w",), 1, "in", torch.tensor([[0, 1], [2, 3]])),
            [[0, 1], [2, 3]],
        ),
        # filters 0-1, 2-3 belong to groups of three inputs; the unit of group 1 comes first
        (
            nn.Conv2d(6, 4, 1, groups=2),
            Member(("w",), 0, "pass", torch.tensor([[2, 3], [0, 1]])),
            [[3, 4, 5], [0, 1, 2]],
        ),
        # a unit of two depthwise channels, as behind a shuffle
        (
            nn.Conv2d(4, 4, 1, groups=4),
            Member(("w",), 0, "pass", torch.tensor([[0, 2], [1, 3]])),
            [[0, 2], [1, 3]],
        ),
        # columns 0 and 1 of either group
        (
            nn.Conv2d(4, 2, 1, groups=2),
            Member(("w",), 1, "in", torch.tensor([[0], [1]])),
            [[0, 2], [1, 3]],
        ),
        (
            nn.ConvTranspose2d(2, 5, 2),
            Member(("w",), 0, "in", torch.tensor([[1], [0]])),
            [[1], [0]],
        ),
    ],
)
def test_channels_of_a_layer_s_input(
    layer: nn.Module, member: Member, channels: list[list[int]]
) -> None:
    assert [sorted(own) for own in input_channels(layer, member).tolist()] == channels


def test_evaluation_is_not_watched() -> None:
    model = named_layers(stem=nn.Conv2d(1, 2, 1), head=nn.Conv2d(2, 1, 1))
    gradients = watched(model, torch.ones(1, 1, 1, 1), batch=2)
    with torch.no_grad():
        assert model(torch.ones(3, 1, 1, 1)).shape == (3, 1, 1, 1)
    assert gradients.table.eq(0).all()


def test_an_input_without_gradient_is_named() -> None:
    model = named_layers(stem=nn.Conv2d(1, 2, 1).requires_grad_(False), head=nn.Conv2d(2, 1, 1))
    watched(model, torch.ones(1, 1, 1, 1), batch=2)
    with pytest.raises(ModelError, match="the input of 'head' has no gradient"):
        model(torch.ones(2, 1, 1, 1))


def test_a_weight_of_another_kind_of_module_is_named() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1, 2, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.conv2d(x, self.weight)

    with pytest.raises(ModelError, match="'head' is a Own; mask gradients need the input"):
        watched(
            named_layers(stem=nn.Conv2d(1, 2, 1), head=Own()),
            torch.ones(1, 1, 1, 1),
            batch=2,
        )


def test_a_layer_that_is_passed_by_is_named() -> None:
    class PassedBy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.head = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.conv2d(self.stem(x), self.head.weight)

    example = torch.ones(1, 1, 1, 1)
    gradients = watched(PassedBy(), example, batch=2)
    with pytest.raises(ModelError, match="the weight of 'head' is used without calling 'head'"):
        gradients.check_called(example)


def test_a_layer_under_two_names_is_watched_once() -> None:
    model = named_layers(stem=nn.Conv2d(1, 2, 1), head=nn.Conv2d(2, 2, 1), again=nn.Conv2d(2, 1, 1))
    model.twin = model.again
    model.forward = lambda x: model.twin(model.head(model.stem(x)))
    gradients = watched(model, torch.ones(1, 1, 1, 1), batch=1)
    assert sorted(gradients.layers) == ["again", "head"]
    assert [len(gradients.readings[path]) for path in ("head", "again")] == [1, 1]
