"""Rules for GPUs. `RULES`: most specific first, the last takes everything."""

from schedules.gpu.dlight import RULES

__all__ = ["RULES"]
