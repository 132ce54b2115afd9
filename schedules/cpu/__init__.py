"""Rules for machines with vector registers, caches and few cores. `RULES`: most specific first, the last takes everything."""

from schedules.cpu.attention import attention
from schedules.cpu.batch_matmul import batch_matmul
from schedules.cpu.conv2d import conv2d
from schedules.cpu.conv2d_plane import conv2d_plane
from schedules.cpu.depthwise import depthwise
from schedules.cpu.dot_batch_matmul import dot_batch_matmul
from schedules.cpu.dot_conv2d import dot_conv2d
from schedules.cpu.dot_depthwise import dot_depthwise
from schedules.cpu.elementwise import elementwise
from schedules.cpu.fallback import fallback
from schedules.cpu.interleave_bytes import interleave_bytes
from schedules.cpu.matmul import packed_matmul
from schedules.cpu.max_of_bytes import max_of_bytes
from schedules.cpu.packed_batch import packed_batch
from schedules.cpu.reduction import reduction
from schedules.cpu.softmax_of_bytes import softmax_of_bytes
from schedules.cpu.table_of_bytes import table_of_bytes

RULES = [
    dot_conv2d,
    dot_depthwise,
    dot_batch_matmul,
    max_of_bytes,
    table_of_bytes,
    conv2d,
    conv2d_plane,
    depthwise,
    attention,
    packed_matmul,
    packed_batch,
    batch_matmul,
    interleave_bytes,
    elementwise,
    softmax_of_bytes,
    reduction,
    fallback,
]
