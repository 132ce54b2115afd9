"""The loops of a product of two activations, for the cost model."""

import numpy as np

from schedules.loopnest import Column, Loop, LoopNest, Operand, dim


def batch_nest(batch: int, rows: int, columns: int, depth: int, tile_rows: Column, vectors: Column, lanes: int, outside: bool) -> LoopNest:
    """Tiles of `tile_rows` x `vectors`; `outside`: columns are the outer of the two loops over tiles."""
    tile_rows, vectors = np.asarray(tile_rows), np.asarray(vectors)
    down = Loop("m", -(-rows // tile_rows), "parallel")
    across = Loop("n", -(-columns // (vectors * lanes)), "parallel")
    loops = (
        Loop("b", batch, "parallel"), *((across, down) if outside else (down, across)), Loop("k", depth, reduces=True),
        Loop("row", tile_rows, "unrolled"), Loop("vector", vectors, "unrolled"), Loop("lane", lanes, "vector"),
    )  # fmt: skip
    row, column = dim(m=tile_rows, row=1), dim(n=vectors * lanes, vector=lanes, lane=1)
    operands = (
        Operand("x", 4, "read", (dim(b=1), row, dim(k=1))),
        Operand("y", 4, "read", (dim(b=1), dim(k=1), column)),
        Operand("z", 4, "accumulate", (dim(b=1), row, column)),
    )
    return LoopNest(loops, operands, batch * rows * columns * depth)
