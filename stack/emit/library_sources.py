"""The parts of CMSIS-NN's source tree that a C project needs: a function's sources, all that they call, and the headers.

    find_tree(...).files(["arm_fully_connected_s8"]) -> {"cmsis_nn/arm_fully_connected_s8.c": "...", "cmsis_nn/LICENSE": "...", ...}

Files keep their names and their text. Sources and headers lie in one folder, so that no compiler needs to be told where headers are.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stack.errors import StackError

FOLDER = "cmsis_nn"
ENTRY = "arm_nnfunctions.h"
CORE_HEADER = "cmsis_compiler.h"  # older versions of the library want this one of CMSIS-Core
CORE_PLACES = (".", "*", "*/Core", "*/CMSIS/Core", "CMSIS/Core")  # where it lies, seen from the tree and from the folder that holds it
GET_IT = "git clone https://github.com/ARM-software/CMSIS-NN"
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
DEFINITION = re.compile(r"^(?!\s|static|#|typedef)[\w *]*?\b(\w+)\s*\([^;{}()]*\)\s*\{", re.MULTILINE)
CALL = re.compile(r"\b(arm_\w+)\s*\(")
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


@dataclass(frozen=True)
class Attached:
    """What goes into a library beside the model: files of a C library by their path, and what else the manifest says."""

    files: Mapping[str, str] = field(default_factory=dict)
    said: Mapping[str, object] = field(default_factory=dict)


NOTHING = Attached()


@dataclass(frozen=True)
class Tree:
    """A source tree. `sources` says which file defines a function, `headers` where a header lies, by the name that others include."""

    root: Path
    sources: Mapping[str, Path]
    headers: Mapping[str, Path]
    licences: Mapping[str, Path]
    code: dict[Path, str] = field(default_factory=dict, repr=False, compare=False)  # without comments

    def read(self, file: Path) -> str:
        if file not in self.code:
            self.code[file] = COMMENT.sub(" ", file.read_text(errors="replace"))
        return self.code[file]

    def calls(self, functions: Sequence[str]) -> list[str]:
        """`functions` and what they call, directly or not, as far as it is the library's and no macro or inline function."""
        inline = {name for header in self.headers.values() for name in re.findall(r"\b(arm_\w+)\s*\([^;{}]*\)\s*\{", self.read(header))}
        seen, waiting = set(), list(functions)
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            if name in self.sources:
                waiting += [other for other in CALL.findall(self.read(self.sources[name])) if other not in inline]
        return sorted(seen)

    def lacks(self, function: str) -> list[str]:
        """Of the functions that `function` needs, those that the tree does not define."""
        return [name for name in self.calls([function]) if name not in self.sources and not self.local(name, function)]

    def local(self, name: str, function: str) -> bool:
        """Whether `name` is a static function or a macro of one of the files."""
        defined = re.compile(rf"static[^;{{}}]*\b{name}\s*\(|#\s*define\s+{name}\b")
        files = {self.sources[other] for other in self.calls([function]) if other in self.sources}
        return any(defined.search(self.read(file)) for file in [*files, *self.headers.values()])

    def files(self, functions: Sequence[str]) -> dict[str, str]:
        """What a project that calls `functions` needs, by path."""
        sources = {self.sources[name] for name in self.calls(functions) if name in self.sources}
        headers: dict[str, Path] = {}
        waiting = [ENTRY, *(name for source in sorted(sources) for name in INCLUDE.findall(self.read(source)))]
        while waiting:
            name = waiting.pop()
            if name in self.headers and name not in headers:  # what is not in the tree is another compiler's
                headers[name] = self.headers[name]
                waiting += INCLUDE.findall(self.read(headers[name]))
        named = {**{source.name: source for source in sources}, **headers, **self.licences}
        return {f"{FOLDER}/{name}": file.read_text(errors="replace") for name, file in sorted(named.items())}


def find_tree(root: Path, family: str, target: str) -> Tree:
    """The source tree in the folder `root`; StackError, with what is missing, where there is none, or it does not run on `target`."""
    if family != "cortex_m":
        hint = "`stackc targets` lists the cores and boards"
        raise StackError(f"CMSIS-NN runs on Cortex-M, and '{target}' is none", at="--cmsis-nn", hint=hint)
    if not root.is_dir():
        raise StackError("there is no such folder for CMSIS-NN", at=str(root), hint=GET_IT)
    for part in (f"Include/{ENTRY}", "Source"):
        if not (root / part).exists():
            inside = sorted(root.glob(f"*/Include/{ENTRY}"))
            hint = f"did you mean '{inside[0].parents[1]}'?" if inside else GET_IT
            raise StackError(f"this is no source tree of CMSIS-NN: it has no {part}", at=str(root), hint=hint)
    licences = {file.name: file for file in sorted(root.glob("LICENSE*"))}
    if not licences:
        raise StackError("this source tree of CMSIS-NN has no LICENSE, which must go with every copy", at=str(root), hint=GET_IT)
    include = root / "Include"
    headers = {file.relative_to(include).as_posix(): file for file in sorted(include.rglob("*.h"))}
    sources: dict[str, Path] = {}
    for file in sorted((root / "Source").rglob("*.c")):
        sources |= dict.fromkeys(DEFINITION.findall(COMMENT.sub(" ", file.read_text(errors="replace"))), file)
    if any(CORE_HEADER in file.read_text(errors="replace") for file in headers.values()) and CORE_HEADER not in headers:
        core = find_core(root)
        headers |= {file.name: file for file in sorted((core / "Include").glob("cmsis_*.h"))}
        licences |= {f"{core.name}_{file.name}": file for file in sorted(core.glob("LICENSE*"))}
    return Tree(root, sources, headers, licences)


def find_core(root: Path) -> Path:
    """The folder of CMSIS-Core in or beside the tree."""
    for base in (root, root.parent):
        for place in CORE_PLACES:
            for file in sorted(base.glob(f"{place}/Include/{CORE_HEADER}")):
                return file.parents[1]
    raise StackError(
        f"this version of CMSIS-NN needs CMSIS-Core: there is no Include/{CORE_HEADER} in it or beside it",
        at=str(root),
        hint=f"put CMSIS/Core of https://github.com/ARM-software/CMSIS_5 beside it, or take a newer version: {GET_IT}",
    )
