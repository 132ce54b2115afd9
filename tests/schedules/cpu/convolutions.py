"""Convolutions of every shape that could go wrong, with a plain NumPy reference."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Conv:
    """One convolution: image [n, c, h, w], filters k; padding is (top, left, bottom, right)."""

    c: int
    k: int
    h: int = 7
    w: int = 13
    n: int = 1
    kernel: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (1, 1, 1, 1)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def image(self) -> tuple[int, int, int, int]:
        return self.n, self.c, self.h, self.w

    @property
    def weight(self) -> tuple[int, int, int, int]:
        return self.k, self.c // self.groups, *self.kernel

    def __str__(self) -> str:
        size = f"{self.n}x{self.c}x{self.h}x{self.w} to {self.k} by {self.kernel[0]}x{self.kernel[1]}"
        return f"{size}, strides {self.strides}, padding {self.padding}, dilation {self.dilation}, {self.groups} groups"


def reference(x: np.ndarray, w: np.ndarray, conv: Conv) -> np.ndarray:
    """The convolution in float64."""
    top, left, bottom, right = conv.padding
    padded = np.pad(x.astype(np.float64), [(0, 0), (0, 0), (top, bottom), (left, right)])
    reach = [(size - 1) * step + 1 for size, step in zip(conv.kernel, conv.dilation, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, (2, 3))
    windows = windows[:, :, :: conv.strides[0], :: conv.strides[1], :: conv.dilation[0], :: conv.dilation[1]]
    parts = zip(np.split(windows, conv.groups, axis=1), np.split(w.astype(np.float64), conv.groups), strict=True)
    return np.concatenate([np.einsum("nchwrs,kcrs->nkhw", pixels, filters) for pixels, filters in parts], axis=1)


NONE = (0, 0, 0, 0)
CONVOLUTIONS = [
    *(Conv(c, 16) for c in (1, 3, 8, 16, 17, 24, 33, 64)),
    *(Conv(24, k) for k in (1, 4, 8, 36, 64)),
    Conv(16, 1000, h=1, w=1, kernel=(1, 1), padding=NONE),
    Conv(3, 260, h=5, w=5),  # blocks made even
    Conv(16, 32, kernel=(1, 1), padding=NONE),
    Conv(16, 32, kernel=(1, 1), padding=NONE, strides=(2, 2)),
    Conv(3, 16, h=17, w=17, kernel=(5, 5), padding=(2, 2, 2, 2)),
    Conv(3, 16, h=17, w=37, kernel=(7, 7), padding=(3, 3, 3, 3), strides=(2, 2)),
    Conv(16, 16, h=17, kernel=(1, 7), padding=(0, 3, 0, 3)),
    Conv(16, 16, h=17, kernel=(7, 1), padding=(3, 0, 3, 0)),
    Conv(1, 8, h=5, w=41, kernel=(3, 39), padding=(1, 19, 1, 19)),
    Conv(1, 64, h=5, w=41, kernel=(3, 39), padding=NONE),
    Conv(16, 16, h=13, w=17, strides=(2, 2)),
    Conv(16, 16, h=13, w=17, strides=(3, 3)),
    Conv(3, 16, h=13, w=17, strides=(1, 3), padding=NONE),
    Conv(3, 4, h=13, w=17, strides=(3, 1)),
    Conv(3, 4, h=13, w=17, strides=(2, 1)),
    Conv(16, 16, h=13, w=17, dilation=(2, 3), padding=(2, 3, 2, 3)),
    Conv(3, 4, h=13, w=17, dilation=(2, 2), strides=(1, 2), padding=(0, 2, 1, 0)),
    Conv(16, 16, h=7, w=37, padding=(0, 1, 2, 0)),
    Conv(3, 16, h=7, w=37, padding=(2, 0, 0, 1), strides=(2, 2)),
    Conv(3, 4, h=7, w=37, padding=(2, 0, 0, 1), strides=(2, 2)),
    Conv(16, 16, h=29, w=1, kernel=(3, 1), padding=(1, 0, 1, 0)),
    Conv(3, 5, h=29, w=1, kernel=(3, 1), padding=(1, 0, 1, 0), strides=(2, 1)),
    Conv(16, 24, h=1, w=29, kernel=(1, 5), padding=(0, 2, 0, 2)),
    Conv(17, 33, n=3, h=5, w=7),
    Conv(5, 3, n=3, h=5, w=7),
    Conv(16, 16, n=3, groups=16),
    Conv(24, 24, groups=24, strides=(2, 2)),
    Conv(16, 32, groups=16),
    Conv(5, 10, groups=5, strides=(2, 2), kernel=(5, 5), padding=(2, 2, 2, 2)),
    Conv(32, 32, groups=2),
    Conv(32, 64, groups=2, n=2, strides=(2, 2)),
    Conv(68, 68, h=5, w=5, groups=2),
    Conv(68, 34, h=5, w=5, groups=2, kernel=(1, 1), padding=NONE),
    Conv(6, 9, groups=3, n=2),
    Conv(272, 272, h=3, w=3, groups=17, kernel=(1, 1), padding=NONE),  # blocks that would be made even
]
