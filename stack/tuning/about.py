"""All that is known of the tuning of one model, as data: what the page about it draws."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schedules.space import Point
from schedules.tuning.database import Record
from stack.tuning.progress import TaskRow


@dataclass(frozen=True)
class About:
    """What the page is about, and all that it draws. `records` are those of the model's programs in the order of their making."""

    model: str
    target: str
    device: str
    unit: str
    rows: Sequence[TaskRow]
    records: Sequence[Record]
    defaults: Mapping[str, Point]
    best: Mapping[str, Record]
    log: Mapping[str, Sequence[Any]]
    choices: Mapping[str, str]
