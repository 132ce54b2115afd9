"""The numbers about a machine that passes and rules may use. A target fills them in; nobody below sees the target."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """One machine, as far as a loop nest cares.

    `vector_bytes` is the width of one register, `vector_registers` how many there are; `fma_ports` is how many fused multiply-adds of that
    width start each cycle; cache sizes are per core in bytes, except `l3_bytes` which all cores share. `bandwidth` is bytes a second from
    memory for one core, `ghz` the sustained clock: both are for rooflines only, never for choosing a schedule.

    `bf16_dot` is whether the CPU multiplies bfloat16 by itself. `reduced_precision` is no number of the machine's: its user allows float32
    to be computed in bfloat16.

    On a GPU a core is a multiprocessor and a vector a warp; all cores share the L2, and there is no L3. The next three fields are for GPUs
    alone: how many threads and how much statically allocated shared memory one block may have, and the compute capability (80 for 8.0).

    On a microcontroller: whether it has Thumb-2 (all but M0 and M0+), the DSP extension (SMLAD and its kin on 16-bit pairs), Helium
    (M-profile vectors, 128 bits wide), and floating point in hardware.
    """

    cores: int = 1
    vector_bytes: int = 32
    vector_registers: int = 16
    fma_ports: int = 2
    l1_bytes: int = 32 << 10
    l2_bytes: int = 512 << 10
    l3_bytes: int = 8 << 20
    int8_dot: bool = False
    bf16_dot: bool = False
    reduced_precision: bool = False
    ghz: float = 2.5
    bandwidth: float = 10e9
    threads_per_block: int = 0
    shared_bytes: int = 0
    compute_capability: int = 0
    thumb2: bool = False
    dsp: bool = False
    helium: bool = False
    fpu: bool = False

    def lanes(self, item_bytes: int = 4) -> int:
        """Elements of `item_bytes` that fill one vector register."""
        return self.vector_bytes // item_bytes

    @property
    def peak_flops(self) -> float:
        """Float32 operations a second of one core; a fused multiply-add counts as two."""
        return self.ghz * 1e9 * self.fma_ports * self.lanes() * 2
