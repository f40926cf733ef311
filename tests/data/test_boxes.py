from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from prunebench.core.errors import DataError
from prunebench.criteria.base import Needs
from prunebench.data.boxes import (
    BoxedImages,
    detection_batches,
    draw_detection_epoch,
    group_by_orientation,
    sampled_boxes,
)
from prunebench.data.dataset import Dataset, load, prepare
from prunebench.experiments.recipe import Augment
from prunebench.training.batches import Batching, portion
from tests.data.coco_files import Content, write_coco

ZERO_ONE: Any = {"mean": (0.0, 0.0, 0.0), "std": (1 / 255, 1 / 255, 1 / 255)}  # inputs are pixels
CENTERED: Any = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}


def drawn(split: BoxedImages, *, size: int = 2, seed: int = 0, flip: bool = False, **more: Any):
    batching = more.pop("batching", Batching(len(split), size))
    generator = torch.Generator().manual_seed(seed)
    return draw_detection_epoch(
        split, Augment(flip=flip), batching=batching, generator=generator, **(ZERO_ONE | more)
    )


def chunks(batches: Any) -> list[tuple[Tensor, Tensor]]:
    return [batches.chunk(k) for k in range(batches.order.chunks)]


def loaded(root: Path, yaml: str = "", workers: int = 0) -> Dataset:
    (root / "dataset.yaml").write_text(yaml)
    out = root.parent / "out.safetensors"
    prepare(f"coco_{root.name}", root.parent, out, validation=0.0)
    return load(out, workers=workers)


def train(data: Dataset) -> BoxedImages:
    assert isinstance(data.train, BoxedImages)
    return data.train


@pytest.fixture
def equal(tmp_path: Path) -> BoxedImages:
    """Three images of 40x20 pixels, in memory; the first one has two boxes, the last one none."""
    images: Content = [
        ((40, 20), [(7, [4, 2, 10, 6]), (3, [0, 0, 40, 20])]),
        ((40, 20), [(3, [30, 10, 10, 10])]),
        ((40, 20), []),
    ]
    return train(loaded(write_coco(tmp_path / "equal", {"train": images, "val": images})))


SIZES = [(64, 40), (40, 64), (64, 32), (48, 48), (32, 64), (64, 40), (64, 40)]  # width, height


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Seven images of different sizes, five of them landscapes; image k has one box."""
    images: Content = [(size, [(3, [k, 2, 10, 6])]) for k, size in enumerate(SIZES)]
    return write_coco(tmp_path / "mixed", {"train": images, "val": images})


def test_images_of_one_size_are_in_memory_and_padded_to_a_multiple_of_32(
    equal: BoxedImages,
) -> None:
    assert isinstance(equal.pixels, Tensor)
    assert equal.shape == (3, 32, 64)
    assert equal.pixels.shape == (3, 3, 32, 64)
    assert equal.sizes.tolist() == [[20, 40]] * 3
    assert equal.labels.tolist() == [[1, 0], [0, -1], [-1, -1]]
    assert equal.boxes[0].tolist() == [[4, 2, 14, 8], [0, 0, 40, 20]]
    assert equal.areas.tolist() == [[60, 800], [100, 0], [0, 0]]


def test_targets_are_the_boxes_in_pixels_of_the_input_and_padding(equal: BoxedImages) -> None:
    targets = equal.targets(torch.arange(3))
    assert targets.dtype == torch.float32
    assert targets[0].tolist() == [[1, 4, 2, 14, 8], [0, 0, 0, 40, 20]]
    assert targets[1].tolist() == [[0, 30, 10, 40, 20], [-1, 0, 0, 0, 0]]
    assert targets[2].tolist() == [[-1, 0, 0, 0, 0]] * 2


def test_a_flip_moves_pixels_and_boxes_within_the_image(equal: BoxedImages) -> None:
    batches = drawn(equal, size=3, seed=1, flip=True)
    inputs, targets = batches.chunk(0)
    assert batches.flips.any()
    assert not batches.flips.all()
    # a box from column 4 to 14 of 40 columns lies from 26 to 36 in the mirror
    boxes = {False: [4, 2, 14, 8], True: [26, 2, 36, 8]}
    for k, (image, is_flipped) in enumerate(zip(batches.index, batches.flips, strict=True)):
        columns = torch.arange(40.0)
        expected = columns.flip(0) if is_flipped else columns
        assert torch.allclose(inputs[k, 0, 0, :40], expected, atol=1e-3)
        assert (inputs[k, :, 20:] == 0).all()
        assert (inputs[k, :, :, 40:] == 0).all()
        if image == 0:
            assert targets[k, 0].tolist() == [1, *boxes[bool(is_flipped)]]


def test_padding_is_the_mean_color(equal: BoxedImages) -> None:
    inputs, _ = drawn(equal, size=3, **CENTERED).chunk(0)
    assert (inputs[:, :, 20:] == 0).all()
    assert (inputs[:, :, :, 40:] == 0).all()
    assert inputs[:, 0, 0, 0].tolist() == [-2.0] * 3


def test_a_crowd_is_no_target(equal: BoxedImages) -> None:
    equal.crowd[0, 0] = True
    assert equal.targets(torch.tensor([0]))[0].tolist() == [[-1, 0, 0, 0, 0], [0, 0, 0, 40, 20]]


@pytest.mark.parametrize("name", ["equal", "mixed"])
def test_an_epoch_depends_on_the_generator_alone(name: str, request: pytest.FixtureRequest) -> None:
    source = request.getfixturevalue(name)
    split = source if name == "equal" else train(loaded(source, "{resize: [64, 64]}"))
    torch.manual_seed(1)
    first = chunks(drawn(split, flip=True))
    torch.manual_seed(2)
    again, other = chunks(drawn(split, flip=True)), chunks(drawn(split, flip=True, seed=3))
    for (inputs, targets), (same_inputs, same_targets) in zip(first, again, strict=True):
        assert torch.equal(inputs, same_inputs)
        assert torch.equal(targets, same_targets)
    assert any(not torch.equal(a[1], b[1]) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 50])
@pytest.mark.parametrize("seed", range(4))
def test_orientations_share_no_batch_unless_left_over(size: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    portrait = torch.arange(20) % 3 == 0  # 7 of 20
    index = torch.randperm(20, generator=generator)
    order = group_by_orientation(index, portrait, size, generator)
    assert sorted(order.tolist()) == list(range(20))
    kinds = [portrait[batch].unique().numel() for batch in order.split(size)]
    # what is left over of 13 and 7 images fills so many batches
    assert sum(n > 1 for n in kinds) <= -(-(13 % size + 7 % size) // size)


def test_full_batches_are_in_any_order() -> None:
    firsts = set()
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        portrait = torch.arange(8) < 4
        order = group_by_orientation(torch.arange(8), portrait, 4, generator)
        firsts.add(bool(portrait[order[0]]))
    assert firsts == {False, True}


def test_batches_of_files_are_as_large_as_their_largest_image(mixed: Path) -> None:
    split = train(loaded(mixed, "{resize: [64, 64]}"))
    batches = drawn(split, size=2)
    for k, (inputs, _) in enumerate(chunks(batches)):
        valid = split.valid[batches.index[batches.order.chunk(k)]]
        assert inputs.shape[2:] == tuple(-(-side // 32) * 32 for side in valid.amax(0).tolist())


def test_the_scale_goes_back_to_original_pixels(tmp_path: Path) -> None:
    # 50x30 at most 100x40: min(100 / 50, 40 / 30) = 4/3; 50 * 4/3 = 66.7 and 30 * 4/3 = 40 pixels
    images: Content = [((50, 30), [(3, [25, 15, 10, 6])]), ((30, 50), [(3, [0, 0, 3, 5])])]
    root = write_coco(tmp_path / "scaled", {"train": images, "val": images})
    split = train(loaded(root, "{resize: [100, 40]}"))
    assert split.valid.tolist() == [[40, 67], [67, 40]]
    (first, second) = detection_batches(split, batch_size=1, **ZERO_ONE)
    inputs, index, sizes, scales = first
    assert inputs.shape == (1, 3, 64, 96)
    assert (index.tolist(), sizes.tolist()) == ([0], [[40, 67]])
    assert scales.dtype == torch.float64
    assert scales.tolist() == [[40 / 30, 67 / 50]]
    assert second[3].tolist() == [[67 / 50, 40 / 30]]
    target = split.targets(index)[0, 0].double()
    y, x = scales[0].tolist()
    assert target.tolist() == pytest.approx([0, 25 * x, 15 * y, 35 * x, 21 * y])
    back = target[1:] / torch.tensor([x, y, x, y])
    assert back.tolist() == pytest.approx([25, 15, 35, 21])


def test_images_are_evaluated_with_landscapes_first(mixed: Path) -> None:
    split = train(loaded(mixed, "{resize: [64, 64]}"))
    found = list(detection_batches(split, batch_size=3, **ZERO_ONE))
    assert torch.cat([index for _, index, _, _ in found]).tolist() == [0, 2, 3, 5, 6, 1, 4]
    for inputs, index, sizes, _ in found:
        for image, k, (h, w) in zip(inputs, index.tolist(), sizes.tolist(), strict=True):
            assert image[2, :h, :w].round().unique().tolist() == [k + 1]
            assert (image[:, h:] == 0).all()
            assert (image[:, :, w:] == 0).all()


@pytest.mark.parametrize("world", [1, 2, 3])
def test_processes_evaluate_every_image_once(mixed: Path, world: int) -> None:
    split = train(loaded(mixed, "{resize: [64, 64]}"))
    found = [
        image
        for rank in range(world)
        for _, index, _, _ in detection_batches(split, rank=rank, world=world, **ZERO_ONE)
        for image in index.tolist()
    ]
    assert sorted(found) == list(range(7))


def test_workers_change_nothing(mixed: Path) -> None:
    alone = chunks(drawn(train(loaded(mixed, "{resize: [64, 64]}")), flip=True))
    helped = chunks(drawn(train(loaded(mixed, "{resize: [64, 64]}", workers=2)), flip=True))
    for (inputs, targets), (own_inputs, own_targets) in zip(helped, alone, strict=True):
        assert torch.equal(inputs, own_inputs)
        assert torch.equal(targets, own_targets)


def test_an_epoch_may_begin_anywhere(mixed: Path) -> None:
    split = train(loaded(mixed, "{resize: [64, 64]}"))
    whole, rest = chunks(drawn(split, flip=True)), drawn(split, flip=True)
    assert torch.equal(rest.chunk(1)[0], whole[1][0])
    assert torch.equal(rest.chunk(2)[0], whole[2][0])


def test_processes_take_portions_of_the_same_batches(mixed: Path) -> None:
    split = train(loaded(mixed, "{resize: [64, 64]}"))
    whole = drawn(split, size=4)

    def share(rank: int) -> Callable[[int], Any]:
        return lambda images: portion(images, rank=rank, world=2)

    parts = [drawn(split, batching=Batching(7, 4, share(rank))) for rank in (0, 1)]
    found = torch.cat([part.chunk(0)[1] for part in parts])
    assert torch.equal(found, whole.chunk(0)[1])


def test_a_criterion_gets_its_samples(mixed: Path) -> None:
    split = train(loaded(mixed, "{resize: [64, 64]}"))
    found = list(
        sampled_boxes(
            split,
            Needs(samples=5, batch=2),
            Augment(),
            generator=torch.Generator().manual_seed(0),
            **ZERO_ONE,
        )
    )
    assert [len(targets) for _, targets in found] == [2, 2, 1]
    places = torch.cat([inputs[:, 2, 0, 0] for inputs, _ in found])
    assert places.round().unique().numel() == 5


def test_samples_by_class_are_refused(equal: BoxedImages) -> None:
    with pytest.raises(ValueError, match="images with boxes have no class"):
        next(
            sampled_boxes(
                equal,
                Needs(samples=5, by_class=True),
                Augment(),
                generator=torch.Generator(),
                **ZERO_ONE,
            )
        )


@pytest.mark.parametrize("workers", [0, 1])
def test_a_changed_image_is_named(mixed: Path, workers: int) -> None:
    split = train(loaded(mixed, "{resize: [64, 64]}", workers=workers))
    path = mixed / "train" / "3.png"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=rf"^{path}: has \d+ bytes, expected"):
        chunks(drawn(split))


def test_an_image_of_another_size_than_its_annotations_is_named(mixed: Path) -> None:
    split = train(loaded(mixed, "{resize: [64, 64]}"))
    assert not isinstance(split.pixels, Tensor)
    split.pixels.pixels[2] = torch.tensor([33, 64])
    expected = r"3.png: has 64x32 pixels, but its annotations say 64x33"
    with pytest.raises(DataError, match=expected):
        chunks(drawn(split))


def test_batches_need_no_more_of_a_batching_than_its_size_length_and_places(
    equal: BoxedImages,
) -> None:
    class Own(SimpleNamespace):
        def __len__(self) -> int:
            return 1

    batching = Own(batch_size=3, places=lambda position: slice(1, 3))
    assert len(drawn(equal, batching=batching).chunk(0)[0]) == 2


def test_a_part_of_a_split_in_memory_has_the_images_in_the_given_order(equal: BoxedImages) -> None:
    part = equal.at(torch.tensor([1, 0]))
    assert len(part) == 2
    assert part.labels.tolist() == [[0, -1], [1, 0]]
    assert torch.equal(part.targets(torch.arange(2)), equal.targets(torch.tensor([1, 0])))
    ((inputs, *_),) = detection_batches(part, **ZERO_ONE)
    ((every, *_),) = detection_batches(equal, **ZERO_ONE)
    assert torch.equal(inputs, every[[1, 0]])


def test_a_part_of_a_split_in_files_reads_its_own_files(mixed: Path) -> None:
    split = train(loaded(mixed, "{resize: [64, 64]}"))
    part = split.at(torch.tensor([4, 2]))
    assert part.sizes.tolist() == [[64, 32], [32, 64]]
    # the landscape comes first; of the whole split it is image 2
    (own, place, *_), (_, other, *_) = detection_batches(part, **ZERO_ONE, batch_size=1)
    assert (place.tolist(), other.tolist()) == ([1], [0])
    every = {int(p): x for x, p, *_ in detection_batches(split, **ZERO_ONE, batch_size=1)}
    assert torch.equal(own, every[2])
