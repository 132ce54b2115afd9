"""What commands take: how the values of options are read, and the options that several commands share.

Imports nothing heavy, since `--help` and every mistake on the command line come before anything is loaded.
"""

import argparse
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

from stack.errors import StackError


class UsageError(StackError):
    """The command line itself is wrong."""


class Parser(argparse.ArgumentParser):
    """argparse, but errors are ours: one form, raised and not printed."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"`{self.prog} --help` shows how to call it")


def shape(text: str) -> tuple[str, tuple[int, ...]]:
    """NAME=1,3,224,224; a name may itself contain '='."""
    name, equals, numbers = text.rpartition("=")
    extents = [extent.strip() for extent in numbers.split(",")] if numbers else []
    if not (name and equals) or not all(extent.isdecimal() and int(extent) > 0 for extent in extents):
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form NAME=1,3,224,224")
    return name, tuple(map(int, extents))


def count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least 1")
    return int(text)


def whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number")
    return int(text)


def duration(text: str) -> float:
    """Seconds, or with m or h at the end minutes or hours."""
    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:], 0)
    try:
        seconds = float(text[:-1]) * unit if unit else float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e9:
        raise argparse.ArgumentTypeError(f"'{text}' is no time such as 90, 90s, 10m or 2h")
    return seconds


def peer(text: str) -> str:
    known = ("onnxruntime", "openvino", "openvino-default")  # stack.peers.PEERS, which imports more than --help should
    if text not in known:
        close = get_close_matches(text, known, n=1)
        raise argparse.ArgumentTypeError(f"no engine is called '{text}'" + (f"; did you mean '{close[0]}'?" if close else ""))
    return text


def add_model(to: argparse.ArgumentParser, with_library: bool = True) -> None:
    to.add_argument("model", type=Path, metavar="MODEL", help="an ONNX or TFLite file")
    to.add_argument(
        "-t",
        "--target",
        default="x86",
        metavar="TARGET",
        help="what to compile for: a name that `stackc targets` lists, or a board's FILE.toml (default: x86, this machine)",
    )
    to.add_argument("--shape", type=shape, action="append", default=[], metavar="NAME=1,3,224,224", help="fix an input's shape")
    if with_library:
        to.add_argument(
            "--cmsis-nn",
            type=Path,
            metavar="PATH",
            help="Arm's source tree of that name: each layer takes its kernel or ours, whichever counts fewer instructions in QEMU",
        )


def add_decisions(to: argparse.ArgumentParser) -> None:
    to.add_argument(
        "--database",
        metavar="URL",
        help="take the schedules that `stackc tune` found: a file, or postgresql://... (default: STACK_DATABASE, or none)",
    )
    to.add_argument("--untuned", action="store_true", help="take every schedule's own default, whatever is known to be faster")
    add_precision(to, "let products of floats be computed in bfloat16")


def add_precision(to: argparse.ArgumentParser, text: str) -> None:
    to.add_argument("--precision", choices=("f32", "bf16"), default="f32", help=f"bf16: {text} (default: f32)")


def add_inputs(to: argparse.ArgumentParser) -> None:
    to.add_argument("--inputs", type=Path, metavar="IN.npz", help="an array for each input (default: random ones)")
    to.add_argument("--seed", type=int, default=0, help="of the random inputs (default: 0)")
    to.add_argument("--threads", type=count, metavar="N", help="threads to compute with (default: all cores)")


def add_board(to: argparse.ArgumentParser) -> None:
    to.add_argument(
        "--board",
        default="",
        metavar="NAME",
        help="of a C project: the board, or its FILE.toml, to run on, in QEMU (default: what it is for)",
    )
    to.add_argument("--port", default="", metavar="/dev/...", help="of a C project: the serial port of the real board")
