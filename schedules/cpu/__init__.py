"""Rules for machines with vector registers, caches and few cores. `RULES`: most specific first, the last takes everything."""

from schedules.cpu.elementwise import elementwise
from schedules.cpu.fallback import fallback
from schedules.cpu.reduction import reduction

RULES = [elementwise, reduction, fallback]
