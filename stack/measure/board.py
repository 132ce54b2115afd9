"""Count the cycles of Cortex-M candidates on a board that is attached.

job, point -> [QEMU: build, compare] -> [firmware: several points of the job] -> [board: flash, run, compare] -> Measurement

Only what is right in QEMU is flashed: a board that hangs costs a minute, and its flash wears out. For the same reason the points of one
program that are ready together share a firmware; where that fails, its halves are tried.
"""

import shutil
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np

from schedules.space import Point
from schedules.tuning.measurement import Job, Measurement
from stack.errors import StackError
from stack.measure.candidate import storage, wrong
from stack.measure.cortex_m import CortexMRunner
from stack.measure.counts import Counts
from stack.measure.firmware import Assemble, Firmware
from stack.measure.native import Timed
from stack.measure.pool import Closed
from stack.measure.serve import Answer, Refused
from targets.cortex_m.attached import ANSWER_SECONDS, Attached, Lost
from targets.cortex_m.protocol import RESTART, Fault, NoAnswer, Session
from targets.cortex_m.protocol import Answer as Said
from targets.target import Target

TOGETHER = 8  # points of one firmware
BATCHES = 3  # of them under way: on the board, ready for it, and in QEMU
RUNS, ENOUGH_SECONDS = 3, 5.0  # of one firmware, fewer where the serial line is slow
STANDS_STILL = "the board's clock counter stands still, so that nothing can be measured there"


@dataclass(frozen=True)
class Waiting:
    """A point that is right in QEMU."""

    folder: Path
    point: Point
    result: Future[Measurement]


class BoardRunner:
    """`target` is the board's, `port` its serial port."""

    unit = "cycles"

    def __init__(self, target: Target, port: str, rules: str = "", *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self.attached = Attached(target, port, answer_seconds)
        self.device = self.attached.at
        self.emulated = CortexMRunner(target, rules)
        self.ledger = self.emulated.ledger
        self.parallel = BATCHES * TOGETHER
        self.changed = threading.Condition()
        self.building: Counter[Path] = Counter()
        self.ready: dict[Path, list[Waiting]] = defaultdict(list)
        self.lost: StackError | None = None
        self.closing = False
        self.measured, self.seconds = 0, 0.0
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def submit(self, job: Job, point: Point, best: float) -> Future[Measurement]:
        """Try one point. StackError once the board is lost."""
        if self.lost:
            raise self.lost
        waiting = Waiting(self.ledger.place(job), dict(point), Future())
        with self.changed:
            self.building[waiting.folder] += 1
        self.emulated.submit(job, point, best).add_done_callback(lambda counted: self.check(waiting, counted))
        return waiting.result

    def check(self, waiting: Waiting, counted: Future[Measurement]) -> None:
        """What QEMU said of a point decides whether the board gets it."""
        gone = counted.exception()
        failed = not gone and counted.result().failure
        with self.changed:
            self.building[waiting.folder] -= 1
            if not gone and not failed and not self.lost and not self.closing:
                self.ready[waiting.folder].append(waiting)
            self.changed.notify()
        if gone or self.closing:
            end(waiting, Closed())
        elif failed:
            end(waiting, counted.result())
        elif self.lost:
            end(waiting, self.failure(waiting, "device lost", self.lost.what))

    def next(self) -> list[Waiting]:
        """The points of the next firmware: as many as there may be, or all of a job of which no more are on their way; none at the end."""
        with self.changed:
            while not self.closing:
                some = sorted(self.ready.items(), key=lambda item: -len(item[1]))
                for folder, points in some:
                    if len(points) >= TOGETHER or (points and not self.building[folder]):
                        self.ready[folder] = points[TOGETHER:]
                        return points[:TOGETHER]
                self.changed.wait()
        return []

    def serve(self) -> None:
        while batch := self.next():
            self.measure([each for each in batch if each.result.set_running_or_notify_cancel()])

    def measure(self, batch: Sequence[Waiting]) -> None:
        """Let all of `batch` end."""
        if not batch:
            return
        try:
            for waiting, answer in zip(batch, self.answers(batch), strict=True):
                end(waiting, replace(self.ledger.enter(waiting.folder, answer), device=self.device))
        except Closed as closed:
            for waiting in batch:
                end(waiting, closed)
        except Lost as lost:
            self.give_up(batch, lost)
        except Exception as error:  # of one point it is the class of its failure; of several the halves will tell whose
            if len(batch) > 1:
                self.measure(batch[: len(batch) // 2])
                self.measure(batch[len(batch) // 2 :])
            else:
                failure = error.args if isinstance(error, Refused) else ("crashed", f"{type(error).__name__}: {error}")
                end(batch[0], self.failure(batch[0], *failure))

    def answers(self, batch: Sequence[Waiting]) -> list[Answer]:
        """What the board says of each point; Refused, or any other exception, where it says nothing of them."""
        with self.changed:  # nothing is submitted to processes that were closed
            if self.closing:
                raise Closed
            if self.lost:
                raise Lost(self.lost.what)
            building = self.emulated.counters.submit(Assemble(batch[0].folder, [waiting.point for waiting in batch]))
        built = building.result()
        if built.failure:
            raise Refused(built.failure, built.detail)
        firmware: Firmware = built.value
        began = time.monotonic()
        try:
            return self.ask(firmware, tries=2 if len(batch) == 1 else 1)
        finally:
            self.measured += len(batch)
            self.seconds += time.monotonic() - began
            self.attached.end_session()
            shutil.rmtree(firmware.folder, ignore_errors=True)

    def ask(self, firmware: Firmware, tries: int) -> list[Answer]:
        """Flash and run it. After a run without an answer the board must show that it is still there."""
        session = self.attached.start(firmware.elf, firmware.manifest)
        try:
            return judged(firmware, runs(session, firmware))
        except Fault as error:
            raise Refused("crashed", error.what) from None
        except AssertionError as error:  # it wrote where it may not
            raise Refused("wrong result", str(error)) from None
        except Lost:
            raise
        except StackError as error:
            if self.closing:
                raise Closed from None
            if tries > 1:
                return self.ask(firmware, tries - 1)
            raise Refused("timed out" if isinstance(error, NoAnswer) else "device lost", error.what) from None

    def failure(self, waiting: Waiting, failure: str, detail: str) -> Measurement:
        return replace(self.ledger.enter(waiting.folder, Answer(None, failure, detail)), device=self.device)

    def give_up(self, batch: Sequence[Waiting], lost: Lost) -> None:
        """Nothing more can be measured: what is ready ends with that, and so does what is submitted from now on."""
        with self.changed:
            if not self.closing:
                self.lost = self.lost or lost
            rest = [*batch, *(waiting for points in self.ready.values() for waiting in points)]
            self.ready.clear()
        for waiting in rest:
            end(waiting, Closed() if self.closing else self.failure(waiting, "device lost", lost.what))

    def counts(self) -> Counts:
        """What it has done so far; a build is one for QEMU with its count there."""
        checked = self.emulated.counts()
        return Counts(checked.seconds, checked.measures, checked.measure_seconds, self.measured, self.seconds, checked.failures)

    def close(self) -> None:
        """End everything; what is under way ends with Closed. Harmless when repeated."""
        with self.changed:
            self.closing = True
            rest = [waiting for points in self.ready.values() for waiting in points]
            self.ready.clear()
            self.changed.notify()
        self.attached.interrupt()
        self.emulated.close()
        self.thread.join()
        self.attached.close()
        for waiting in rest:
            end(waiting, Closed())


def runs(session: Session, firmware: Firmware) -> list[Said]:
    """A few runs, from the beginning each."""
    inputs = [argument.read() for argument in firmware.inputs]
    began, answers = time.monotonic(), list[Said]()
    while not answers or (len(answers) < RUNS and time.monotonic() - began < ENOUGH_SECONDS):
        answers.append(session.run(inputs, RESTART))
    return answers


def judged(firmware: Firmware, answers: Sequence[Said]) -> list[Answer]:
    """For each point its cost, or how its output differs from what is right."""
    if not any(answer.count for answer in answers):
        raise Lost(STANDS_STILL, hint="without --port candidates are counted in QEMU")
    output, found = firmware.output, []
    for number, steps in enumerate(zip(*(answer.steps[1:] for answer in answers), strict=True)):
        got = np.frombuffer(answers[0].outputs, np.uint8)[number * output.bytes : (number + 1) * output.bytes]
        values = got.view(storage(output.dtype)).reshape(output.shape)
        if difference := wrong(values, output.read(), output.dtype, firmware.precision, firmware.rounds):
            found.append(Answer(None, "wrong result", f"on the board: {difference}"))
        else:
            quartiles = np.quantile(steps, [0.25, 0.75])
            found.append(Answer(Timed(max(1.0, median(steps)), float(quartiles[1] - quartiles[0]), True)))
    return found


def end(waiting: Waiting, how: Measurement | BaseException) -> None:
    """Let the point's future end so, unless it was cancelled or has ended before."""
    result = waiting.result
    if result.done() or not (result.running() or result.set_running_or_notify_cancel()):
        return
    if isinstance(how, BaseException):
        result.set_exception(how)
    else:
        result.set_result(how)
