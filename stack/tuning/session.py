"""What a run of tuning keeps beside its measurements, so that the same command goes on where it was stopped or killed.

Two rows of the database: a short one after every trial (budget used, random state), and a log after every round (what the model predicted
and how well it did), which only the report reads.
"""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from schedules.tuning.database import Database, Scope
from schedules.tuning.rounds import Budget

EVERY = 5.0  # seconds between writes of the log
MOST_LINES = 4000  # of each kind that the log keeps


def session_key(graph: str, scope: Scope, precision: str, on_board: bool = False) -> str:
    told = [graph, asdict(scope), precision, *["board"] * on_board]  # a board's costs are others than QEMU's
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]


@dataclass
class Session:
    """One budget. `finished` says why it ended, and is empty while it is not."""

    database: Database
    key: str
    budget: Mapping[str, Any]
    trials: int = 0
    seconds: float = 0.0
    random: Mapping[str, Any] = field(default_factory=dict)
    finished: str = ""
    resumed: bool = False
    log: dict[str, list[Any]] = field(default_factory=lambda: {"rounds": [], "predicted": [], "latency": []})
    logged: float = 0.0

    @classmethod
    def open(cls, database: Database, key: str, budget: Budget, seed: int) -> "Session":
        """The one that this budget was given to before and that has not ended, or a new one."""
        asked = {**asdict(budget), "seed": seed}
        log = read_log(database, key)
        kept = database.session(key)
        if kept and kept["budget"] == asked and not kept["finished"]:
            rest = {name: kept[name] for name in ("trials", "seconds", "random")}
            return cls(database, key, asked, **rest, resumed=kept["trials"] > 0, log=log)
        return cls(database, key, asked, log=log)

    def save(self) -> None:
        self.database.save_session(
            self.key,
            {name: getattr(self, name) for name in ("budget", "trials", "seconds", "random", "finished")},
        )

    def save_log(self, now: bool = False) -> None:
        if now or time.monotonic() - self.logged > EVERY:
            self.logged = time.monotonic()
            self.database.save_session(f"{self.key}/log", {name: lines[-MOST_LINES:] for name, lines in self.log.items()})


def read_log(database: Database, key: str) -> dict[str, list[Any]]:
    return {"rounds": [], "predicted": [], "latency": [], **(database.session(f"{key}/log") or {})}
