"""Batches for training and evaluation: images gathered, augmented and normalised many at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from nasturtium.tasks import Augmentation, Split, Task

CHUNK_ELEMENTS = {"cpu": 1 << 20, "cuda": 1 << 26}
DEVICE_SHARE = 0.5
"""Share of the free GPU memory that the images may take to be moved there whole."""


class Feed:
    """One split on its way to the device.

    Images stay as they are stored (uint8 or float32, possibly memory-mapped) and move to a GPU once, where they fit.
    Whole chunks of several batches are gathered, augmented and normalised by a few tensor calls, because for small
    networks the cost of a call exceeds that of its arithmetic. All randomness of an epoch is drawn up front on the CPU
    from one generator, so the batches do not depend on the chunk size or the device.

    Args:
        split: The images and labels.
        task: Gives the statistics to normalise by.
        device: Where the batches shall be.
        augmentation: None for evaluation.
        size: (height, width) to resize to, bilinear with antialiasing, or None.
        rows: The rows to use, or None for all.
    """

    def __init__(
        self,
        split: Split,
        task: Task,
        *,
        device: torch.device,
        augmentation: Augmentation | None = None,
        size: tuple[int, int] | None = None,
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        self.device = device
        self.augmentation = augmentation or Augmentation()
        self.size = size
        images = split.images if rows is None else split.images[rows]
        labels = split.labels if rows is None else split.labels[rows]
        shape = (1, -1, *[1] * (images.ndim - 2))
        self.factor = torch.tensor([task.scale / s for s in task.std], device=device).view(shape)
        self.offset = torch.tensor([-m / s for m, s in zip(task.mean, task.std, strict=True)], device=device).view(
            shape
        )
        self.labels = torch.from_numpy(np.array(labels)).to(device)
        self.images: NDArray[np.uint8] | NDArray[np.float32] | Tensor = images
        if device.type == "cuda" and images.nbytes < DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]:
            self.images = torch.from_numpy(np.array(images)).to(device)
        elements = int(np.prod(images.shape[1:]))
        self.chunk = max(1, CHUNK_ELEMENTS.get(device.type, CHUNK_ELEMENTS["cpu"]) // elements)

    def __len__(self) -> int:
        return len(self.labels)

    def in_order(self, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images in order, not augmented; the last batch may be short."""
        for start in range(0, len(self), batch):
            rows = torch.arange(start, min(start + batch, len(self)))
            yield self._gather(rows), self.labels[start : start + batch]

    def shuffled(
        self, batch: int, generator: torch.Generator, layout: torch.memory_format
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch in random order, augmented; what does not fill a batch is left out.

        Args:
            batch: Images of a batch, at most `len(self)`.
            generator: On the CPU; determines everything.
            layout: Of the batches.
        """
        n = len(self)
        order = torch.randperm(n, generator=generator)[: n // batch * batch]
        draws = self._draw(len(order), generator)
        step = max(1, self.chunk // batch) * batch
        for start in range(0, len(order), step):
            rows = order[start : start + step]
            images = self._gather(rows, {k: v[start : start + step].to(self.device) for k, v in draws.items()})
            if images.ndim == 4:
                images = images.contiguous(memory_format=layout)
            labels = self.labels[rows.to(self.device)]
            yield from zip(torch.split(images, batch), torch.split(labels, batch), strict=True)

    def _draw(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """What happens to each image of an epoch."""
        draws: dict[str, Tensor] = {}
        kind = self.augmentation
        if len(self.images.shape) != 4:
            return draws
        height, width = self.size or self.images.shape[2:]
        if kind.shift:
            draws["shift"] = torch.randint(0, 2 * self._shift + 1, (n, 2), generator=generator)
        if kind.flip:
            draws["flip"] = torch.rand(n, generator=generator) < 0.5
        if kind.cutout:
            centre = torch.rand((n, 2), generator=generator) * torch.tensor([height, width])
            draws["cutout"] = centre.long()
        return draws

    @property
    def _shift(self) -> int:
        """The largest shift, scaled with the resolution and smaller than the image."""
        height = self.images.shape[2]
        ratio = self.size[0] / height if self.size else 1.0
        return min(max(1, round(self.augmentation.shift * ratio)), (self.size or self.images.shape[2:])[0] - 1)

    def _gather(self, rows: Tensor, draws: dict[str, Tensor] | None = None) -> Tensor:
        """The given images, augmented as drawn, normalised, as float32 on the device."""
        draws = draws or {}
        if isinstance(self.images, Tensor):
            x = self.images[rows.to(self.device)].float()
        else:
            x = torch.from_numpy(self.images[rows.numpy()]).to(self.device).float()
        if self.size is not None and x.ndim == 4 and tuple(x.shape[2:]) != self.size:
            x = functional.interpolate(x, size=self.size, mode="bilinear", antialias=True, align_corners=False)
        if "shift" in draws:
            x = shifted(x, draws["shift"], self._shift, self.augmentation.padding)
        if "flip" in draws:
            x = torch.where(draws["flip"].view(-1, 1, 1, 1), x.flip(3), x)
        x = torch.addcmul(self.offset, x, self.factor)
        if "cutout" in draws:
            x = cut_out(x, draws["cutout"], self.augmentation.cutout)
        return x


def shifted(x: Tensor, offsets: Tensor, most: int, padding: str) -> Tensor:
    """Each image moved by its own offset, by one gather from windows of the padded batch.

    Args:
        x: `(batch, channels, height, width)`.
        offsets: `(batch, 2)` int64 in [0, 2 * most]; `most` is no shift.
        most: Pixels of padding on each side.
        padding: "black" (zeros) or "reflect".
    """
    height, width = x.shape[2:]
    padded = functional.pad(x, (most,) * 4, mode="constant" if padding == "black" else "reflect")
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    rows = torch.arange(len(x), device=x.device)
    return windows[rows, :, offsets[:, 0], offsets[:, 1]]


def cut_out(x: Tensor, centres: Tensor, side: int) -> Tensor:
    """Each image with a square set to zero (the mean colour, after normalisation).

    Args:
        x: `(batch, channels, height, width)`.
        centres: `(batch, 2)` int64, pixel of the square's centre.
        side: Pixels; squares are cut at the border.
    """
    inside = torch.ones(len(x), 1, x.shape[2], x.shape[3], dtype=torch.bool, device=x.device)
    for axis, extent in enumerate(x.shape[2:]):
        at = torch.arange(extent, device=x.device)
        start = (centres[:, axis] - side // 2)[:, None]
        hit = (at >= start) & (at < start + side)
        inside &= hit.view(len(x), 1, *((extent, 1) if axis == 0 else (1, extent)))
    return x.masked_fill(inside, 0.0)


def subset(labels: NDArray[np.int64], share: float) -> NDArray[np.int64] | None:
    """Rows of a share of the train images, or None for all.

    The mix of classes stays, every network gets the same rows, and those of a smaller share are among a larger's.

    """
    if share >= 1.0:
        return None
    rng = np.random.Generator(np.random.PCG64(0))
    rows = []
    for kind in np.unique(labels):
        of_kind = rng.permutation(np.flatnonzero(labels == kind))
        rows.append(of_kind[: max(1, round(share * len(of_kind)))])
    return np.sort(np.concatenate(rows))
