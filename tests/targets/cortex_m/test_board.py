"""A project keeps all that a board file said, so that it runs where that file is not."""

import json
from dataclasses import asdict

import pytest

from stack.emit.emit import describe
from stack.errors import UnknownTarget
from targets.cortex_m.board import board_of, recorded
from targets.cortex_m.runner import choose_board
from targets.registry import every, find
from targets.target import Target


def manifest(target: Target) -> dict:
    """What a manifest says of `target`, once written and read."""
    return json.loads(json.dumps({"target": describe(target), "machine": asdict(target.machine)}))


@pytest.mark.parametrize("target", [target for target in every() if target.memory], ids=lambda target: target.name)
def test_a_manifest_has_the_whole_board(target):
    assert recorded(manifest(target)) == board_of(target)


def test_a_project_runs_on_its_board_without_the_board_s_file(tmp_path):
    file = tmp_path / "robot.toml"
    memories = "".join(
        f'[[memory]]\nname = "{kind}"\nkind = "{kind}"\nbase = {base}\nbytes = 64\n' for base, kind in ((0, "flash"), (64, "ram"))
    )
    file.write_text('summary = "mine"\ncore = "cortex-m3"\n[board]\nqemu = "mps2-an385"\nclock_hz = 25_000_000\n' + memories)
    made = manifest(find(str(file)))
    file.unlink()
    board = choose_board(made)
    assert (board.name, board.core, board.qemu, board.memory[0].bytes) == ("robot", "cortex-m3", "mps2-an385", 64)
    with pytest.raises(UnknownTarget) as caught:
        choose_board(made, str(file))
    assert caught.value.at == str(file)


def test_a_project_for_a_core_runs_on_the_board_that_emulates_it(tmp_path):
    assert choose_board(manifest(find("cortex-m4"))) == board_of(find("mps2-an386"))
    (tmp_path / "no-fpu.toml").write_text('summary = "mine"\ncore = "cortex-m4"\n[machine]\nfpu = false\n')
    assert choose_board(manifest(find(str(tmp_path / "no-fpu.toml")))) == board_of(find("mps2-an386"))
