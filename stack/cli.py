"""The command line, `stackc`. Each command is a few lines over the Python API; nothing heavy is imported before a command runs.

    stackc compile resnet18.onnx -t x86 -o out/ --shape x=1,3,224,224
    stackc run out/

Whatever a user can mend is one block on stderr that begins `error: `, with exit status 2. A fault of ours has exit status 1.
"""

import argparse
import json
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stack import __version__, knobs
from stack.arguments import Parser, UsageError, add_board, add_decisions, add_inputs, add_model, add_precision, duration, peer, whole
from stack.errors import BadLibrary, StackError, ToolMissing

REINSTALL = "in Stack's folder, pip install -c constraints.txt -e . brings what it needs"
OURS = ("stack", "targets", "schedules", "relay_passes")
ISSUES = "please report it with the model, the command and the output of `STACK_DEBUG=1 stackc ...`"


def parser() -> argparse.ArgumentParser:
    made = Parser(prog="stackc", description="From a trained model to a library for x86, CUDA and Cortex-M.", allow_abbrev=False)
    made.add_argument("--version", action="version", version=f"stackc {__version__}")
    commands = made.add_subparsers(metavar="COMMAND", parser_class=Parser)

    def command(name: str, run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        added.set_defaults(run=run)
        return added

    added = command("compile", compile_, "compile a model into a library")
    add_model(added)
    added.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="folder to write; an older library there is replaced"
    )
    add_decisions(added)

    added = command("tune", tune, "measure schedules of a model's programs on this machine, and keep the best in a database")
    add_model(added, with_library=False)
    added.add_argument("--trials", type=whole, metavar="N", help="candidates to measure (default: 24 a program, 1000 at most)")
    added.add_argument("--seconds", type=duration, metavar="S", help="time to spend, such as 90, 10m or 2h (default: as the trials take)")
    added.add_argument(
        "--database",
        metavar="URL",
        help="where results are kept: a file, or postgresql://... (default: STACK_DATABASE, or ~/.local/share/stack/tuning.db)",
    )
    added.add_argument("--dask", default="", metavar="ADDRESS", help="measure on the workers of a Dask scheduler instead of here")
    added.add_argument(
        "--port",
        default="",
        metavar="/dev/...",
        help="flash the candidates to the board that -t names, at that serial port, and count cycles (default: instructions, in QEMU)",
    )
    add_precision(added, "also try products of floats in bfloat16")
    added.add_argument(
        "--report", type=Path, nargs="?", const=Path(), metavar="FILE.html", help="write a page about it (default: MODEL-tuning.html)"
    )
    added.add_argument("--seed", type=int, default=0, help="of what is drawn at random (default: 0)")

    added = command("database", database, "look into a tuning database, or exchange what it has with others as lines of JSON")
    added.add_argument("database", metavar="URL", help="a file, or postgresql://...")
    action = added.add_mutually_exclusive_group()
    action.add_argument("--export", type=Path, metavar="FILE.jsonl", help="write everything into a file")
    action.add_argument("--import", dest="load", type=Path, metavar="FILE.jsonl", help="add what such a file has")
    action.add_argument("--merge", metavar="URL", help="add what another database has")

    added = command("run", run, "run a library once")
    added.add_argument("library", type=Path, metavar="DIR")
    add_inputs(added)
    add_board(added)
    added.add_argument("--outputs", type=Path, metavar="OUT.npz", help="file to write the outputs to")

    added = command("bench", bench, "time a model beside other engines, all in one run, or count what it costs as firmware")
    add_model(added)
    add_decisions(added)
    added.add_argument(
        "--against",
        type=peer,
        action="append",
        default=[],
        metavar="ENGINE",
        help="onnxruntime, openvino (float32) or openvino-default; may be repeated",
    )
    added.add_argument("--json", type=Path, metavar="FILE", help="file to write the result to")
    add_inputs(added)

    added = command("profile", profile, "time each operator of a library, or count its instructions")
    added.add_argument("library", type=Path, metavar="DIR")
    add_inputs(added)
    add_board(added)

    added = command("flash", flash, "build a C project for a board and write it into the board's flash")
    added.add_argument("library", type=Path, metavar="DIR")
    added.add_argument("--board", required=True, metavar="NAME", help="the board: a name that `stackc boards` lists, or FILE.toml")
    added.add_argument("--port", default="", metavar="/dev/...", help="the board's serial port, where its tool needs one")
    added.add_argument("--harness", action="store_true", help="not its own program but the one that `stackc run --port` talks to")
    added.add_argument("--dry-run", action="store_true", help="build, and only print the commands that would flash it")

    added = command("export", export, "write a C project as a package for another build system")
    added.add_argument("library", type=Path, metavar="DIR")
    added.add_argument("--format", required=True, choices=("zephyr", "arduino", "platformio", "cmake"), help="whose package")
    added.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="new or empty folder to write")

    command("boards", boards, "list the boards that C projects are built, run and flashed for")
    command("targets", targets, "list what models can be compiled for")
    command("doctor", doctor, "show what is installed, what is missing, and the command that installs it")
    return made


def compile_(arguments: argparse.Namespace) -> None:
    from stack import report
    from stack.library import check_destination
    from stack.profile import FALLBACK
    from targets.registry import check_name

    check_destination(arguments.output)
    check_name(arguments.target)
    with report.progress() as on_progress:
        from stack.compiler import compile

        library = compile(arguments.model, arguments.target, **decided_by(arguments), on_progress=on_progress)
        library.save(arguments.output)
        spent = str(on_progress)
    fallbacks = [operator["kernel"] for operator in library.manifest["operators"] if operator["rule"] == FALLBACK]
    if library.manifest["container"] == "c":
        return report.show_firmware(arguments.output, library.manifest, spent)
    report.show_library(arguments.output, library.manifest, fallbacks, spent)


def decided_by(arguments: argparse.Namespace) -> dict[str, Any]:
    """What compiling and timing are both told of the model."""
    if arguments.untuned and arguments.database:
        raise UsageError("--untuned takes nothing from a database", at=arguments.database, hint="give one of --untuned and --database")
    names = ("cmsis_nn", "database", "untuned", "precision")
    return {"shapes": dict(arguments.shape), **{name: getattr(arguments, name) for name in names}}


def tune(arguments: argparse.Namespace) -> None:
    from targets.registry import check_name

    check_name(arguments.target)
    if not arguments.model.is_file():
        raise StackError("there is no such file", at=str(arguments.model), hint="name an ONNX or TFLite file")
    if arguments.trials == 0 and arguments.report is None:
        raise UsageError("0 trials measure nothing", hint="name how many, or write a page about earlier ones with --report")
    from stack.tuning import view
    from stack.tuning.tune import tune

    page = arguments.report
    if page == Path():
        page = Path(f"{arguments.model.stem}-tuning.html")
    with view.display() as on_progress:
        result = tune(
            arguments.model,
            arguments.target,
            shapes=dict(arguments.shape),
            trials=arguments.trials,
            seconds=arguments.seconds,
            database=arguments.database,
            precision=arguments.precision,
            dask=arguments.dask,
            port=arguments.port,
            seed=arguments.seed,
            report=page,
            on_progress=on_progress,
        )
    view.show_result(result, knobs.without_password(shlex.join(["stackc", *sys.argv[1:]])))
    if page is not None:
        print(f"report     {page}")
    if result.interrupted:
        raise KeyboardInterrupt


def database(arguments: argparse.Namespace) -> None:
    from schedules.tuning import exchange
    from stack import databases, report

    if arguments.load is not None:
        with databases.writing(arguments.database) as store:
            return report.show_loaded(exchange.load(store, arguments.load), str(arguments.load))
    if arguments.merge is not None:
        with databases.existing(arguments.merge) as other, databases.writing(arguments.database) as store:
            return report.show_loaded(exchange.merge(store, other), arguments.merge)
    with databases.existing(arguments.database) as store:
        if arguments.export is not None:
            return print(f"{exchange.export(store, arguments.export)} rows written to {arguments.export}")
        report.show_database(databases.overview(store), store.name)


def run(arguments: argparse.Namespace) -> None:
    from stack import report, samples
    from stack.library import load

    library = load(arguments.library, threads=arguments.threads, board=arguments.board, port=arguments.port)
    if arguments.inputs is None:
        print(f"random inputs, seed {arguments.seed}")
    outputs = library.run(samples.inputs(library.inputs, arguments.inputs, arguments.seed))
    if arguments.outputs is not None:
        samples.write(arguments.outputs, outputs)
    report.show_outputs(library.outputs, outputs)


def bench(arguments: argparse.Namespace) -> None:
    from stack import peers, report, samples
    from stack.bench import compare
    from stack.bench_firmware import count
    from targets.registry import check_name

    check_name(arguments.target)
    for engine in arguments.against:
        peers.module(engine)
    with report.progress() as on_progress:
        from stack.compiler import compile

        shapes = dict(arguments.shape)
        library = compile(arguments.model, arguments.target, **decided_by(arguments), threads=arguments.threads, on_progress=on_progress)
        inputs = samples.inputs(library.inputs, arguments.inputs, arguments.seed)
        on_progress("time", 0, 1)
        if library.manifest["container"] == "c":
            footprint = count(arguments.model, library, inputs, arguments.seed)
            write_json(arguments.json, footprint.json())
            return report.show_footprint(footprint)
        comparison = compare(arguments.model, library, inputs, shapes, arguments.against)
    write_json(arguments.json, comparison.json())
    report.show_comparison(comparison)


def write_json(file: Path | None, result: Mapping[str, Any]) -> None:
    if file is not None:
        file.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")


def profile(arguments: argparse.Namespace) -> None:
    from stack import report, samples
    from stack.library import load
    from stack.profile import count, profile
    from stack.roofline import measure

    library = load(arguments.library, threads=arguments.threads, board=arguments.board, port=arguments.port)
    inputs = samples.inputs(library.inputs, arguments.inputs, arguments.seed)
    if library.manifest["container"] == "c":
        return report.show_counts(count(library, inputs), library.unit, arguments.board or library.manifest["target"]["name"])
    limits = measure(library.threads)
    report.show_profile(profile(library, inputs, limits), limits, library.threads)


def c_project(folder: Path) -> dict[str, Any]:
    """The manifest of a C project; users may have edited its files since. BadLibrary where the folder holds something else."""
    from stack.manifest import parse

    manifest = parse(folder)
    if manifest["container"] != "c":
        name = manifest["target"]["name"]
        raise BadLibrary(
            f"this is a library for '{name}', and no C project", at=str(folder), hint="compile the model for a core or a board"
        )
    return manifest


def flash(arguments: argparse.Namespace) -> None:
    from targets.cortex_m.flash import execute, plan

    manifest = c_project(arguments.library)
    commands = plan(arguments.library, manifest, arguments.board, arguments.port, arguments.harness, arguments.dry_run)
    for command in commands:
        print(shlex.join(command), flush=True)
    if not arguments.dry_run:
        execute(commands, arguments.board)
        print(f"flashed {arguments.board}")


def export(arguments: argparse.Namespace) -> None:
    from targets.cortex_m.export import export

    for file in export(arguments.library, c_project(arguments.library), arguments.format, arguments.output):
        print(file)


def boards(_arguments: argparse.Namespace) -> None:
    from stack import report
    from targets.cortex_m.board import board_of
    from targets.registry import every

    report.show_boards([board_of(target) for target in every() if target.memory])


def targets(_arguments: argparse.Namespace) -> None:
    from stack import report
    from targets.registry import every

    report.show_targets(every())


def doctor(_arguments: argparse.Namespace) -> None:
    from stack import report
    from stack.doctor import examine

    findings = examine()
    report.show_findings(findings, knobs.KNOBS)
    missing = [finding for finding in findings if finding.needed and not finding.fine]
    if missing:
        raise ToolMissing(
            f"{', '.join(finding.what for finding in missing)}: missing, or of another version",
            hint="; ".join(finding.command for finding in missing),
        )


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    try:
        arguments = parser().parse_args(words)
        if "run" not in arguments:
            raise UsageError("no command was given", hint="`stackc --help` lists the commands")
        arguments.run(arguments)
        sys.stdout.flush()
        return 0
    except StackError as error:
        return complain(str(error), 2)
    except KeyboardInterrupt:
        return complain("error: interrupted", 130)
    except ModuleNotFoundError as error:
        package = str(error.name).split(".")[0]
        if package in OURS:
            return internal(error)
        return complain(str(ToolMissing(f"the Python package '{package}' is not installed", hint=REINSTALL)), 2)
    except BrokenPipeError:  # `stackc targets | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return complain(str(StackError(error.strerror or str(error), at=error.filename and str(error.filename))), 2)
    except MemoryError:
        return complain(str(StackError("not enough memory", hint="close other programs, or use a smaller model")), 2)
    except Exception as error:  # a fault of ours, whatever its type: one block and status 1, the traceback with STACK_DEBUG
        return internal(error)


def internal(error: Exception) -> int:
    """A fault of ours: short, since users cannot mend it, and with all of it where STACK_DEBUG asks."""
    if knobs.debug():
        traceback.print_exception(error)
    summary = str(error).strip().splitlines() or [""]
    return complain(str(StackError(f"internal error: {type(error).__name__}: {summary[-1]}", hint=ISSUES)), 1)


def complain(block: str, status: int) -> int:
    print(block, file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
