"""A recipe: a named way of training, shared by experiments and kept in config/recipes."""

from __future__ import annotations

import bisect
import math
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


class Settings(BaseModel):
    """Frozen, keyword-only settings in which an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false as numbers, which Python takes for 1 and 0."""
        kind = cls.model_fields[str(info.field_name)].annotation
        values = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(v, bool) for v in values) and bool not in (kind, *get_args(kind)):
            raise ValueError("true and false are no values of this key")
        return value


class Augment(Settings):
    """What is done to a training image on the device, in this order."""

    crop_padding: Annotated[int, Field(ge=0)] = 0  # pixels of black on each side, then a crop
    flip: bool = False  # mirrored left to right, with probability 1/2
    cutout: Annotated[int, Field(ge=0)] = 0  # side of a square set to the mean, pixels


class Schedule(Settings):
    """The learning rate over a phase, as a factor of the recipe's `lr`."""

    kind: Literal["constant", "milestones", "exponential", "cosine"] = "constant"
    milestones: tuple[NonNegative, ...] = ()  # epochs at which `factor` is multiplied in
    factor: Positive = 0.1  # at each milestone; exponential: at each epoch
    warmup_epochs: NonNegative = 0.0  # linear from 0 to the schedule's value
    per: Literal["epoch", "step"] = "epoch"  # how often the rate changes

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
        }
        if self.kind == "exponential":
            changed["factor"] = self.factor ** (1 / scale)
        return self.model_copy(update=changed)

    def factor_at(self, epoch: float, epochs: float | None) -> float:
        """Return the factor at `epoch` (fractional, from 0) of a phase of `epochs` epochs.

        >>> s = Schedule(kind="milestones", milestones=(2, 3), factor=0.1)
        >>> [round(s.factor_at(e, 4), 4) for e in (0, 1.9, 2, 3.5)]
        [1.0, 1.0, 0.1, 0.01]
        """
        warm = min(1.0, epoch / self.warmup_epochs) if self.warmup_epochs else 1.0
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


class Recipe(Settings):
    """How a network is trained in a phase. What no source prints has no default."""

    epochs: Annotated[int, Field(ge=1)] | None = None  # None: the method's phase says how long
    batch_size: Annotated[int, Field(ge=2)]
    lr: Positive
    weight_decay: NonNegative
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = False
    schedule: Schedule = Schedule()
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    augment: Augment = Augment()
    normalize: str = "dataset"  # "dataset", or a name of data/normalization.py
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"

    @model_validator(mode="after")
    def _nesterov_has_a_momentum(self) -> Recipe:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        return self

    def shortened(self, scale: float) -> Self:
        """Return the recipe with a share of its epochs, and a schedule that falls as far.

        Epochs are rounded, to at least one; a recipe without a number of its own keeps none.
        """
        if scale == 1 or self.epochs is None:
            return self
        epochs = max(1, round(scale * self.epochs))
        schedule = self.schedule.shortened(epochs / self.epochs)
        return self.model_copy(update={"epochs": epochs, "schedule": schedule})

    def lr_at(self, epoch: float, epochs: float | None) -> float:
        """Return the learning rate at `epoch`, counted from the start of the phase."""
        return self.lr * self.schedule.factor_at(epoch, epochs)
