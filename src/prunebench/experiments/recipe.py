"""A recipe: a named way to train a network, shared by experiments and kept in config/recipes."""

from __future__ import annotations

import bisect
import math
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from prunebench.experiments.settings import Beta, NonNegative, Positive, Settings

MOST_EPOCHS = 1_000_000
MOST_PIXELS = 4096  # of padding or of a side
TrainedOn = Literal["train", "train_and_val"]


class ResizedCrop(Settings):
    """A crop of random area and shape, scaled to the data set's size: Inception's augmentation."""

    scale: tuple[Positive, Positive] = Field(
        (0.08, 1.0),
        description=(
            "Range of the crop's area, as a fraction of the image's area (default: torchvision's; "
            "EPruner's code uses 0.08 to 1.25)."
        ),
    )
    ratio: tuple[Positive, Positive] = Field(
        (3 / 4, 4 / 3),
        description="Range of the crop's width divided by its height (default: torchvision's).",
    )

    @model_validator(mode="after")
    def _ranges_rise(self) -> ResizedCrop:
        for name, (low, high) in (("scale", self.scale), ("ratio", self.ratio)):
            if low > high:
                raise ValueError(f"{name} must be a range from low to high, not {[low, high]}")
        return self


class Augment(Settings):
    """Augmentation of training images, in the order of the keys.

    `resized_crop`, `random_crop` and `jitter` need a data set of image files; a loading worker
    applies them to one image at a time. The device applies the others to a whole batch.
    """

    model_config = ConfigDict(title="Augmentation")

    resized_crop: ResizedCrop | None = Field(
        None,
        description=(
            "Random crop, scaled to the data set's size, for image files; `{}` takes its defaults "
            "(default: crop as in evaluation)."
        ),
    )
    random_crop: bool = Field(
        False,
        description=(
            "Crop at a random place instead of the center, with the size used in evaluation, for "
            "image files; Caffe's augmentation."
        ),
    )
    jitter: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0,
        description=(
            "Color jitter j: brightness, contrast and saturation are each scaled by a random "
            "factor in [1 - j, 1 + j], for image files."
        ),
    )
    crop_padding: Annotated[int, Field(ge=0, le=MOST_PIXELS)] = Field(
        0,
        description=(
            "Pixels of black padding on each side, followed by a random crop of the original size."
        ),
    )
    flip: bool = Field(False, description="Mirror images left to right with probability 1/2.")
    lighting: NonNegative = Field(
        0.0,
        description=(
            "Standard deviation of a random shift along the principal components of ImageNet's "
            "colors, for color images (AlexNet's augmentation, which uses 0.1)."
        ),
    )
    cutout: Annotated[int, Field(ge=0, le=MOST_PIXELS)] = Field(
        0, description="Side in pixels of a randomly placed square that is set to the mean."
    )

    @property
    def needs_files(self) -> bool:
        """Whether a part of the augmentation is applied while image files are loaded."""
        return self.resized_crop is not None or self.random_crop or self.jitter > 0

    @model_validator(mode="after")
    def _one_crop(self) -> Augment:
        if self.resized_crop is not None and self.random_crop:
            raise ValueError("resized_crop and random_crop cannot be combined")
        return self


class Schedule(Settings):
    """Learning-rate schedule of a phase, as a factor of the recipe's `lr`."""

    kind: Literal["constant", "milestones", "exponential", "cosine"] = Field(
        "constant", description="Shape of the schedule; `cosine` reaches 0 at the phase's end."
    )
    milestones: tuple[NonNegative, ...] = Field(
        (),
        description=(
            "Epochs, in rising order, at which the rate is multiplied by `factor`; only for "
            "`kind: milestones`."
        ),
    )
    factor: Positive = Field(
        0.1,
        description=(
            "Factor of the rate at each milestone; with `kind: exponential`, at each epoch."
        ),
    )
    warmup_epochs: NonNegative = Field(
        0.0, description="Length of the warm-up in epochs; the rate changes at each step."
    )
    warmup_steps: Annotated[int, Field(ge=0)] = Field(
        0, description="Length of the warm-up in steps, instead of `warmup_epochs`."
    )
    warmup_from: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0,
        description="Factor of the scheduled rate at the start of the warm-up.",
    )
    warmup: Literal["linear", "constant"] = Field(
        "linear",
        description=(
            "`linear` rises from `warmup_from` to 1; `constant` stays at `warmup_from` until the "
            "warm-up ends."
        ),
    )
    per: Literal["epoch", "step"] = Field(
        "epoch", description="How often the rate changes after the warm-up."
    )

    @model_validator(mode="after")
    def _milestones_belong_to_their_kind(self) -> Schedule:
        if (self.kind == "milestones") != bool(self.milestones):
            raise ValueError("milestones must be given if and only if kind is 'milestones'")
        if list(self.milestones) != sorted(self.milestones):
            raise ValueError("milestones must be in rising order")
        return self

    @model_validator(mode="after")
    def _one_warmup(self) -> Schedule:
        if self.warmup_epochs and self.warmup_steps:
            raise ValueError("warmup_epochs and warmup_steps cannot be combined")
        if self.warmup == "constant" and not self.warmup_from:
            raise ValueError("a constant warm-up needs warmup_from above 0")
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

    def factor_at(self, epoch: float, epochs: float | None, step: int = 0) -> float:
        """Return the factor at `epoch` (fractional, from 0) of a phase of `epochs` epochs.

        `step` is the same moment counted in steps, for a warm-up given in steps.

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
        """Return the warm-up factor w + (1 - w) t, with w = `warmup_from` and t the share done."""
        done, length = (
            (step, self.warmup_steps) if self.warmup_steps else (epoch, self.warmup_epochs)
        )
        if done >= length:
            return 1.0
        if self.warmup == "constant":
            return self.warmup_from
        return self.warmup_from + (1.0 - self.warmup_from) * (done / length)


class Recipe(Settings):
    """Training settings of a phase. Settings that papers rarely print have no default."""

    epochs: Annotated[int, Field(ge=1, le=MOST_EPOCHS)] | None = Field(
        None,
        description="Passes over the training split (default: the method sets the length).",
    )
    batch_size: Annotated[int, Field(ge=2)] = Field(
        description="Images per optimizer step, over all processes together."
    )
    lr: Positive = Field(description="Learning rate, before the schedule.")
    weight_decay: NonNegative = Field(
        description=(
            "L2 penalty, added to the gradients of all parameters; with `adamw`, decoupled weight "
            "decay."
        )
    )
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="Momentum of `sgd`.")
    nesterov: bool = Field(
        False, description="Use Nesterov momentum; `sgd` only, with a momentum above 0."
    )
    optimizer: Literal["sgd", "adam", "adamw"] = Field("sgd", description="Optimizer.")
    betas: tuple[Beta, Beta] = Field(
        (0.9, 0.999),
        description=(
            "Decay rates of the two moment estimates of `adam` and `adamw` (default: Kingma and "
            "Ba, arXiv 1412.6980)."
        ),
    )
    eps: Positive = Field(
        1e-8,
        description=(
            "Term added to the denominator by `adam` and `adamw` (default: Kingma and Ba, arXiv "
            "1412.6980)."
        ),
    )
    clip_norm: Positive | None = Field(
        None,
        description=(
            "Maximum norm of all gradients of the loss together, clipped before a method changes "
            "them (default: no clipping)."
        ),
    )
    accumulation: Annotated[int, Field(ge=1)] = Field(
        1,
        description=(
            "Number of parts in which a batch is processed, to save memory; batch norm sees one "
            "part at a time."
        ),
    )
    sync_batch_norm: bool = Field(
        False,
        description=(
            "With several processes, compute batch-norm statistics over the images of all of "
            'them; see "Several GPUs".'
        ),
    )
    schedule: Schedule = Field(Schedule(), description="Learning-rate schedule.")
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="Fraction of the target that is spread evenly over all classes."
    )
    augment: Augment = Field(Augment(), description="Augmentation of training images.")
    normalize: str = Field(
        "dataset",
        description=(
            "Mean and standard deviation that images are normalized with: `dataset` for the data "
            "set's own, or a name from `src/prunebench/data/normalization.py` (papers differ). A "
            "run that starts from a base network uses the base network's in all phases; its own "
            "recipes may leave the key out and must not differ."
        ),
    )
    norm_statistics: Literal["updated", "frozen"] = Field(
        "updated",
        description=(
            "Running statistics of batch norm; `frozen` keeps them and normalizes training batches "
            "with them, while scale and shift are still trained."
        ),
    )
    precision: Literal["fp32", "tf32", "bf16"] = Field(
        "fp32",
        description=(
            "Arithmetic of forward and backward passes; accuracies are evaluated in fp32. `bf16` "
            "on a CPU needs a processor with bf16 instructions (AVX-512, AMX or ARM)."
        ),
    )
    compile: bool = Field(
        False,
        description=(
            "Compile forward and backward passes with `torch.compile`, which needs a C++ compiler "
            "on a CPU. All jobs share a cache: `results/.compiled`, or `TORCHINDUCTOR_CACHE_DIR`."
        ),
    )
    weights: str | None = Field(
        None,
        description=(
            "Pretrained weights of a base network, which is then not trained: an entry of "
            "torchvision (`ResNet50_Weights.IMAGENET1K_V1`), a `.safetensors`, `.pt`, `.pth`, "
            "`.th` or `.tar` file in `data_dir`, or the address of one, which is downloaded "
            "unless `data_dir` holds the file or a `.safetensors` copy. The other keys then "
            "record how they were trained."
        ),
    )
    backbone: str | None = Field(
        None,
        description=(
            "Pretrained classifier from which the backbone of a detector starts before it is "
            "trained, named as in `weights`; its last layer is dropped (default: fresh weights)."
        ),
    )
    frozen: tuple[str, ...] = Field(
        (),
        description=(
            "Parameters that are not trained, as patterns of their names, such as "
            "`backbone.stem.*`."
        ),
    )
    weights_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        None,
        description=("SHA-256 of the file of `weights`, or over its tensors (default: any file)."),
    )
    max_steps: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="Largest number of steps of a phase, in a trial (default: no limit). Set by "
        "the override of an experiment, not in a file.",
    )
    max_images: Annotated[int, Field(ge=2)] | None = Field(
        None,
        description="Largest number of images of each split, in a trial (default: all). Set by "
        "the override of an experiment, not in a file.",
    )
    trained_on: TrainedOn = Field(
        "train",
        description=(
            "Images that the network is trained on. `train_and_val` adds the validation split, as "
            "for most published networks: then nothing can be selected by it. A run that starts "
            "from a base network trains on the base network's images; its own recipes may leave "
            "the key out and must not differ."
        ),
    )
    expected_top1: Annotated[float, Field(gt=0, le=100)] | None = Field(
        None,
        description=(
            "Expected top-1 accuracy of a base network on the test split, in percent; runs stop if "
            "it is missed by more than `expected_within` (default: no check)."
        ),
    )
    expected_map: Annotated[float, Field(gt=0, le=100)] | None = Field(
        None,
        description="The same for a detector: its COCO AP, in percent (default: no check).",
    )
    expected_within: Positive = Field(
        1.0,
        description="Tolerance of `expected_top1` and `expected_map` in percentage points.",
    )

    @model_validator(mode="after")
    def _nesterov_has_a_momentum(self) -> Recipe:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        if self.nesterov and self.optimizer != "sgd":
            raise ValueError(f"nesterov needs the optimizer 'sgd', not {self.optimizer!r}")
        return self

    @model_validator(mode="after")
    def _one_source(self) -> Recipe:
        if self.weights is not None and self.backbone is not None:
            raise ValueError("weights and backbone exclude each other")
        return self

    @model_validator(mode="after")
    def _parts_are_batches(self) -> Recipe:
        if self.batch_size < 2 * self.accumulation:
            raise ValueError(
                f"batch_size {self.batch_size} in {self.accumulation} parts leaves fewer than two "
                "images for batch norm"
            )
        return self

    def shortened(self, scale: float) -> Self:
        """Return the recipe with a share of its epochs, and with the same total decay of the rate.

        The number of epochs is rounded, to at least one; a recipe without one is unchanged. The
        expected accuracy of a network that is trained here is dropped: it belongs to the whole
        training.
        """
        if scale == 1 or self.epochs is None:
            return self
        epochs = max(1, round(scale * self.epochs))
        changed: dict[str, Any] = {
            "epochs": epochs,
            "schedule": self.schedule.shortened(epochs / self.epochs),
        }
        if self.weights is None:
            changed |= {"expected_top1": None, "expected_map": None}
        return self.model_copy(update=changed)

    def limited(self, max_steps: int | None, max_images: int | None) -> Self:
        """Return the recipe of a trial, without an expected accuracy; None: no limit."""
        if max_steps is None and max_images is None:
            return self
        changed: dict[str, Any] = {"max_steps": max_steps, "max_images": max_images}
        if self.weights is None or max_images is not None:
            changed |= {"expected_top1": None, "expected_map": None}
        return self.model_copy(update=changed)

    def lr_at(self, epoch: float, epochs: float | None, step: int = 0) -> float:
        """Return the learning rate at `epoch`, counted from the start of the phase."""
        return self.lr * self.schedule.factor_at(epoch, epochs, step)
