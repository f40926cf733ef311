"""The preprocessing of a network's input: resize, crop and normalize images as in training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from prunebench.data.augment import normalize
from prunebench.data.boxed_source import DIVISOR, scaled_size
from prunebench.data.boxes import pad_images


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Turns an image into the input of a network.

    Attributes
    ----------
    image
        Channels, height and width of the network's input.
    mean, std
        Per channel, of pixels scaled to [0, 1].
    resize
        Shorter side in pixels to which an image is resized before the center crop; None: images
        must have the height and width of `image`. A pair is the largest longer and shorter side of
        a detector's input, which is scaled as a whole and padded.
    """

    image: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int | tuple[int, int] | None = None

    def __call__(self, image: Any) -> Tensor:
        """Return the input (N, C, h, w) of the network, float32; one image is a batch of one.

        `image` is a PIL image of any mode, which is resized and cropped, or a uint8 tensor
        (C, h, w) or (N, C, h, w) of the network's size. A detector's image is scaled and padded
        instead; its tensors have sides of any multiple of 32. Raises ValueError for anything else.
        """
        pixels = image if isinstance(image, Tensor) else self._pixels(image)
        if pixels.dtype != torch.uint8 or pixels.ndim not in (3, 4):
            raise ValueError(
                f"the image is {pixels.dtype} of shape {tuple(pixels.shape)}; expected uint8 "
                "pixels (C, h, w) or (N, C, h, w)"
            )
        shape = tuple(pixels.shape[-3:])
        if isinstance(self.resize, tuple):
            if shape[0] != self.image[0] or any(side % DIVISOR for side in shape[1:]):
                raise ValueError(
                    f"the image has shape {shape}, but the network takes {self.image[0]} channels "
                    f"and sides that are multiples of {DIVISOR}"
                )
        elif shape != self.image:
            raise ValueError(f"the image has shape {shape}, but the network takes {self.image}")
        batch = pixels if pixels.ndim == 4 else pixels[None]
        inputs = normalize(batch, self.mean, self.std)
        if isinstance(self.resize, tuple) and not isinstance(image, Tensor):
            h, w = scaled_size((image.height, image.width), self.resize)
            inputs[:, :, h:], inputs[:, :, :, w:] = 0, 0  # padding is the mean color
        return inputs

    def _pixels(self, image: Any) -> Tensor:
        from torchvision.transforms import v2

        from prunebench.data.decoding import scale_image  # Pillow

        if not hasattr(image, "convert"):
            raise ValueError(f"expected a PIL image or a uint8 tensor, not {type(image).__name__}")
        image = image.convert("RGB" if self.image[0] == 3 else "L")
        if isinstance(self.resize, tuple):
            image = scale_image(image, scaled_size((image.height, image.width), self.resize))
            return pad_images(v2.functional.pil_to_tensor(image)[None])[0]
        if self.resize is not None:
            image = v2.CenterCrop(self.image[1:])(v2.Resize(self.resize)(image))
        pixels: Tensor = v2.functional.pil_to_tensor(image)
        return pixels
