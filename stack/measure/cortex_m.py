"""Count Cortex-M candidates in QEMU, as many at once as there are cores.

job, point -> [firmware: apply, C, arm-gcc, QEMU, compare] -> Measurement
"""

import os
from concurrent.futures import Future

from schedules.space import Point
from schedules.tuning.measurement import Job, Measurement
from stack.measure.counts import Counts
from stack.measure.firmware import ANSWER_SECONDS, Count, Setup
from stack.measure.ledger import Ledger, first_failed, hand_over
from stack.measure.local import physical_memory
from stack.measure.pool import Pool
from stack.measure.serve import Answer, Limits
from targets.cortex_m import qemu, toolchain
from targets.target import Target

SECONDS = 60.0  # of CPU for one candidate, QEMU's own not among them
NICE = 10


class CortexMRunner:
    """QEMU stands in for the core of `target`, whatever board that is."""

    unit = "instructions"

    def __init__(self, target: Target, rules: str = "", *, answer_seconds: float = ANSWER_SECONDS) -> None:
        toolchain.find_newlib()
        qemu.find_qemu()
        cores = sorted(os.sched_getaffinity(0))
        self.device = f"{target.codegen['mcpu']} in QEMU"
        self.parallel = 1 + len(cores)
        self.ledger = Ledger(self.device)
        limits = [Limits(SECONDS, physical_memory() // 2, (), NICE) for _ in cores]
        self.counters = Pool("stack.measure.firmware", Setup(target, self.ledger.folder, rules, answer_seconds), limits)

    def submit(self, job: Job, point: Point, best: float) -> Future[Measurement]:
        """Build, run, compare and count one point. A count is exact: `best` is of no use."""
        result: Future[Measurement] = Future()
        folder, prepared = self.ledger.prepare(job, self.counters)

        def count(_: Future[Answer]) -> None:
            ended = first_failed(prepared)
            if ended or not result.set_running_or_notify_cancel():
                finish(ended or prepared)
            else:
                self.counters.submit(Count(folder, dict(point))).add_done_callback(finish)

        def finish(ended: Future[Answer]) -> None:
            hand_over(ended, self.ledger, folder, result)

        prepared.add_done_callback(count)
        return result

    def counts(self) -> Counts:
        """What it has done so far; building is part of measuring."""
        pool, ledger = self.counters, self.ledger
        return Counts(ledger.seconds, 0, 0.0, pool.served, pool.seconds, ledger.failed())

    def close(self) -> None:
        """End all processes and remove all files; what is under way ends with an exception. Harmless when repeated."""
        self.counters.close()
        self.ledger.close()
