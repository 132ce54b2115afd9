"""What one output of a convolution reads, and in which order kernels for the DSP extension read it.

A window is a list of runs, bytes side by side in memory: whole rows of the kernel where it is not dilated, else its taps. Runs are read by
four bytes: u -> int16 pairs (0, 2) and (1, 3). What is left of them, up to three bytes each, comes last, again by four. `order` says
which k that makes, for the weights to follow.
"""

from dataclasses import dataclass

from schedules.integer import Conv2D


@dataclass(frozen=True)
class Window:
    """What one output of `op` reads."""

    op: Conv2D

    @property
    def contiguous(self) -> bool:
        """Pixel after pixel, as in pointwise convolutions without stride."""
        op = self.op
        return op.kernel_h == op.kernel_w == 1 and op.strides == (1, 1) and not op.padded

    @property
    def columns(self) -> int:
        """Columns of the image from the first of a window to its last."""
        return (self.op.kernel_w - 1) * self.op.dilation[1] + 1

    @property
    def rows(self) -> int:
        return (self.op.kernel_h - 1) * self.op.dilation[0] + 1

    @property
    def row_bytes(self) -> int:
        return self.columns * self.op.channels

    @property
    def by_taps(self) -> bool:
        return self.op.dilation[1] > 1 and self.op.kernel_w > 1

    @property
    def run(self) -> int:
        return self.op.channels if self.by_taps else self.op.channels * self.op.kernel_w

    @property
    def starts(self) -> list[tuple[int, int]]:
        """Row of the kernel and byte in that row, for each run."""
        taps = range(self.op.kernel_w) if self.by_taps else range(1)
        return [(row, tap * self.op.dilation[1] * self.op.channels) for row in range(self.op.kernel_h) for tap in taps]

    @property
    def rest(self) -> int:
        return self.run % 4

    @property
    def leftovers(self) -> list[tuple[int, int, int]]:
        """Row of the kernel, byte in that row, and k, of each byte that is not read by fours."""
        whole = self.run - self.rest
        return [
            (row, start + byte, index * self.run + byte)
            for index, (row, start) in enumerate(self.starts)
            for byte in range(whole, self.run)
        ]

    @property
    def order(self) -> list[int]:
        """The k of every half word, -1 where it is only there to fill the last four."""
        whole = self.run - self.rest
        fours = [run * self.run + byte for run in range(len(self.starts)) for byte in range(0, whole, 4)]
        read = [[k, k + 1, k + 2, k + 3] for k in fours]
        loose = [k for _, _, k in self.leftovers]
        loose += [-1] * (-len(loose) % 4)
        read += [loose[at : at + 4] for at in range(0, len(loose), 4)]
        return [four[index] for four in read for index in (0, 2, 1, 3)]

    @property
    def words(self) -> int:
        """Pairs in one window."""
        return len(self.order) // 2

    @property
    def steps(self) -> int:
        """Four products each."""
        return len(self.order) // 4

    @property
    def border(self) -> str:
        """How windows beyond the border are read: by whole `taps`, by one `word` a row, or from a copy at the `edge`; "" where none is."""
        op = self.op
        if not op.padded:
            return ""
        simple = op.dilation[1] == 1 and max(op.pad[1], op.pad[3]) < op.kernel_w
        if simple and op.channels % 4 == 0:
            return "taps"
        return "word" if simple and self.run == 4 and op.width * op.channels >= 4 else "edge"

    @property
    def edge_bytes(self) -> int:
        """Room for a copy of one window."""
        return self.op.kernel_h * self.row_bytes if self.border == "edge" else 0
