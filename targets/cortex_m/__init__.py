"""Arm Cortex-M: C projects, built by the GNU toolchain, run in QEMU or on a board."""
