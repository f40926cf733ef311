"""Training from image files: the same loop, resumed in mid-epoch to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from prunebench.core.errors import DataError, RunStoppedError
from prunebench.criteria.base import Needs
from prunebench.data.dataset import load, prepare
from prunebench.experiments.phases import training
from prunebench.experiments.recipe import Augment, ResizedCrop
from prunebench.models.registry import build
from prunebench.training.checkpoint import CheckpointFile, StopRequest
from prunebench.training.loop import Loop
from prunebench.training.run import RunState
from tests.training.conftest import ARCHITECTURE, Phases, Stopping, recipe
from tests.training.test_resume import assert_same, outcome

STREAMED = recipe(
    batch_size=8,
    augment=Augment(
        resized_crop=ResizedCrop(), jitter=0.4, crop_padding=1, flip=True, lighting=0.1, cutout=2
    ),
)


@pytest.fixture(scope="module")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data stage's file of 30 training and 10 test images in two classes."""
    folder = tmp_path_factory.mktemp("streaming")
    rng = np.random.default_rng(0)
    for split, n in (("train", 15), ("test", 5)):
        for label in (0, 1):
            for k in range(n):
                path = folder / "stripes" / split / str(label) / f"{k}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = rng.integers(0, 120, (14 + k, 20, 3), dtype=np.uint8)
                (pixels if label else pixels.swapaxes(0, 1))[::2] += 120
                Image.fromarray(pixels).save(path)
    (folder / "stripes" / "dataset.yaml").write_text("{size: 8, resize: 10}")
    prepare("folder_stripes", folder, folder / "stripes.safetensors", validation=0.0)
    return folder / "stripes.safetensors"


def streaming(
    file: Path, folder: Path | None = None, *, after: int | None = None, workers: int = 0
) -> Loop:
    """A run on the images of `file`; with `after` it stops after so many steps."""
    phases = (training("train", STREAMED),)
    dataset = load(file, workers=workers)

    def fresh() -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return build(ARCHITECTURE, num_classes=2)

    run = RunState(
        seed=0,
        device=torch.device("cpu"),
        dataset=dataset,
        build=fresh,
        phases=phases,
        base_recipe=STREAMED,
    )
    run.start_from(fresh())
    stop = StopRequest()
    checkpoint = None if folder is None else CheckpointFile(folder, "spec", 3600.0, print)
    progress = Stopping(stop, after)
    return Loop(run, Phases(phases), progress=progress, stop=stop, checkpoint=checkpoint)


@pytest.mark.parametrize("after", [2, 6])  # of four steps an epoch
def test_a_run_stopped_in_mid_epoch_goes_on_to_the_same_bits(
    after: int, stripes: Path, tmp_path: Path
) -> None:
    whole = streaming(stripes)
    whole.train()
    with pytest.raises(RunStoppedError, match="stopped by signal 15"):
        streaming(stripes, tmp_path, after=after).train()
    second = streaming(stripes, tmp_path)
    second.train()
    assert second.run.records.resumed_at == [("train", after)]
    assert_same(outcome(second), outcome(whole))


def test_the_number_of_workers_changes_no_bit(stripes: Path) -> None:
    alone, helped = streaming(stripes), streaming(stripes, workers=2)
    alone.train()
    helped.train()
    assert_same(outcome(helped), outcome(alone))


def test_criteria_get_their_samples_from_files_too(stripes: Path) -> None:
    run = streaming(stripes).run
    taken = [list(run.samples(Needs(samples=5, batch=4, by_class=True))) for _ in range(2)]
    assert [labels.tolist() for _, labels in taken[0]] == [[0] * 4, [0], [1] * 4, [1]]
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(*taken, strict=True))
    assert taken[0][0][0].shape == (4, 3, 8, 8)


def test_a_damaged_image_stops_the_run_by_its_name(stripes: Path) -> None:
    path = stripes.parent / "stripes" / "train" / "1" / "7.jpg"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    try:
        with pytest.raises(DataError, match=rf"^{path}: has "):
            streaming(stripes, workers=1).train()
    finally:
        path.write_bytes(content)
