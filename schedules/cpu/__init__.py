"""Rules for machines with vector registers, caches and few cores. `RULES`: most specific first, the last takes everything."""

from schedules.cpu.elementwise import elementwise
from schedules.cpu.fallback import fallback
from schedules.cpu.matmul import packed_matmul
from schedules.cpu.reduction import reduction

RULES = [packed_matmul, elementwise, reduction, fallback]
