"""A recipe: a named way of training, shared by experiments and kept in config/recipes."""

from __future__ import annotations

import bisect
import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from prunebench.experiments.settings import Beta, NonNegative, Positive, Settings


class ResizedCrop(Settings):
    """A crop of random area and shape, scaled to the data set's size: Inception's augmentation.

    Defaults are torchvision's. EPruner's code takes areas of 0.08 to 1.25.
    """

    scale: tuple[Positive, Positive] = (0.08, 1.0)  # of the image's area
    ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)  # width by height

    @model_validator(mode="after")
    def _ranges_rise(self) -> ResizedCrop:
        for name, (low, high) in (("scale", self.scale), ("ratio", self.ratio)):
            if low > high:
                raise ValueError(f"{name} is a range from low to high, not {[low, high]}")
        return self


class Augment(Settings):
    """What is done to a training image, in this order.

    The first three are for data sets of image files, done by the worker that reads one; all others
    are done on the device.
    """

    resized_crop: ResizedCrop | None = None  # None: as for evaluation
    random_crop: bool = False  # cut out at a random place, not from the centre; Caffe's way
    jitter: Annotated[float, Field(ge=0, lt=1)] = 0.0  # of brightness, contrast, saturation
    crop_padding: Annotated[int, Field(ge=0)] = 0  # pixels of black on each side, then a crop
    flip: bool = False  # mirrored left to right, with probability 1/2
    lighting: NonNegative = 0.0  # deviation along ImageNet's principal colours; colour images
    cutout: Annotated[int, Field(ge=0)] = 0  # side of a square set to the mean, pixels

    @property
    def needs_files(self) -> bool:
        """Whether a part of it is done while an image file is read."""
        return self.resized_crop is not None or self.random_crop or self.jitter > 0

    @model_validator(mode="after")
    def _one_crop(self) -> Augment:
        if self.resized_crop is not None and self.random_crop:
            raise ValueError("resized_crop and random_crop are not given together")
        return self


class Schedule(Settings):
    """The learning rate over a phase, as a factor of the recipe's `lr`."""

    kind: Literal["constant", "milestones", "exponential", "cosine"] = "constant"
    milestones: tuple[NonNegative, ...] = ()  # epochs at which `factor` is multiplied in
    factor: Positive = 0.1  # at each milestone; exponential: at each epoch
    warmup_epochs: NonNegative = 0.0  # how long the warm-up lasts
    warmup_steps: Annotated[int, Field(ge=0)] = 0  # the same in steps; one of the two
    warmup_from: Annotated[float, Field(ge=0, le=1)] = 0.0  # factor at its beginning
    warmup: Literal["linear", "constant"] = "linear"  # constant: `warmup_from` until it ends
    per: Literal["epoch", "step"] = "epoch"  # how often the rate changes after the warm-up

    @model_validator(mode="after")
    def _milestones_belong_to_their_kind(self) -> Schedule:
        if (self.kind == "milestones") != bool(self.milestones):
            raise ValueError("milestones are given if and only if kind is 'milestones'")
        if list(self.milestones) != sorted(self.milestones):
            raise ValueError("milestones must rise")
        return self

    def shortened(self, scale: float) -> Self:
        """Return the schedule of a phase that is shorter by `scale`.

        >>> Schedule(kind="milestones", milestones=(60, 90)).shortened(0.1).milestones
        (6.0, 9.0)
        """
        changed: dict[str, Any] = {
            "milestones": tuple(scale * epoch for epoch in self.milestones),
            "warmup_epochs": scale * self.warmup_epochs,
            "warmup_steps": round(scale * self.warmup_steps),
        }
        if self.kind == "exponential":
            changed["factor"] = self.factor ** (1 / scale)
        return self.model_copy(update=changed)

    @model_validator(mode="after")
    def _one_warmup(self) -> Schedule:
        if self.warmup_epochs and self.warmup_steps:
            raise ValueError("warmup_epochs and warmup_steps are not given together")
        if self.warmup == "constant" and not self.warmup_from:
            raise ValueError("a constant warm-up needs warmup_from above 0")
        return self

    def factor_at(self, epoch: float, epochs: float | None, step: int = 0) -> float:
        """Return the factor at `epoch` (fractional, from 0) of a phase of `epochs` epochs.

        `step` is the same place in steps, for a warm-up that is counted in them.

        >>> s = Schedule(kind="milestones", milestones=(2, 3), factor=0.1)
        >>> [round(s.factor_at(e, 4), 4) for e in (0, 1.9, 2, 3.5)]
        [1.0, 1.0, 0.1, 0.01]
        """
        warm = self._warmup_at(epoch, step)
        at = math.floor(epoch) if self.per == "epoch" else epoch
        match self.kind:
            case "milestones":
                return warm * self.factor ** bisect.bisect_right(self.milestones, at)
            case "exponential":
                return warm * float(self.factor**at)
            case "cosine":
                if epochs is None:
                    raise ValueError("a cosine schedule needs a phase of known length")
                return warm * 0.5 * (1.0 + math.cos(math.pi * min(at / epochs, 1.0)))
            case _:
                return warm

    def _warmup_at(self, epoch: float, step: int) -> float:
        """Return the warm-up's factor: with `warmup_from` w and its share t done, w + (1 - w) t."""
        done, length = (
            (step, self.warmup_steps) if self.warmup_steps else (epoch, self.warmup_epochs)
        )
        if done >= length:
            return 1.0
        if self.warmup == "constant":
            return self.warmup_from
        return self.warmup_from + (1.0 - self.warmup_from) * (done / length)


class Recipe(Settings):
    """How a network is trained in a phase. What no source prints has no default."""

    epochs: Annotated[int, Field(ge=1)] | None = None  # None: the method's phase says how long
    batch_size: Annotated[int, Field(ge=2)]
    lr: Positive
    weight_decay: NonNegative
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = False
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    betas: tuple[Beta, Beta] = (0.9, 0.999)  # Adam's, of Kingma and Ba (arXiv 1412.6980)
    eps: Positive = 1e-8  # Adam's
    clip_norm: Positive | None = None  # of all gradients of the loss together
    accumulation: Annotated[int, Field(ge=1)] = 1  # parts that a batch is passed in
    sync_batch_norm: bool = False  # over the images of all processes, where there are several
    schedule: Schedule = Schedule()
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    augment: Augment = Augment()
    normalize: str = "dataset"  # "dataset", or a name of data/normalization.py
    # of batch norm; frozen: they stay as they are and normalize training batches too
    norm_statistics: Literal["updated", "frozen"] = "updated"
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    compile: bool = False  # by torch.compile, in forward and backward
    # of a base network: where its weights come from, and how good it must be
    weights: str | None = None  # None: trained here
    weights_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None  # None: any
    expected_top1: Annotated[float, Field(gt=0, le=100)] | None = None  # percent, on the test split
    expected_within: Positive = 1.0  # percentage points

    @model_validator(mode="after")
    def _nesterov_has_a_momentum(self) -> Recipe:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        if self.nesterov and self.optimizer != "sgd":
            raise ValueError(f"nesterov belongs to sgd, not to {self.optimizer}")
        return self

    def shortened(self, scale: float) -> Self:
        """Return the recipe with a share of its epochs, and a schedule that falls as far.

        Epochs are rounded, to at least one; a recipe without a number of its own keeps none. What
        is expected of a network that is trained is expected of the whole training.
        """
        if scale == 1 or self.epochs is None:
            return self
        epochs = max(1, round(scale * self.epochs))
        changed: dict[str, Any] = {
            "epochs": epochs,
            "schedule": self.schedule.shortened(epochs / self.epochs),
        }
        if self.weights is None:
            changed["expected_top1"] = None
        return self.model_copy(update=changed)

    @model_validator(mode="after")
    def _parts_are_batches(self) -> Recipe:
        if self.batch_size < 2 * self.accumulation:
            raise ValueError(
                f"batch_size {self.batch_size} in {self.accumulation} parts leaves less than two "
                "images for batch norm"
            )
        return self

    def lr_at(self, epoch: float, epochs: float | None, step: int = 0) -> float:
        """Return the learning rate at `epoch`, counted from the start of the phase."""
        return self.lr * self.schedule.factor_at(epoch, epochs, step)
