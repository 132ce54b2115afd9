import pytest

from stack.errors import StackError, UnknownTarget
from targets.registry import check_name, every, family_of, find, load, names
from targets.target import Memory
from targets.x86.detect import AVX2, cpu_flags


@pytest.mark.parametrize("name", [name for name in names() if name != "x86"])
def test_every_board_file_loads(name):
    target = find(name)
    assert target.name == name
    assert target.summary
    assert target.family == family_of(target).name


def test_every_lists_each_name_once():
    listed = [target.name for target in every()]
    assert listed == [name for name in names() if name != "x86" or cpu_flags().issuperset(AVX2)]


def test_an_unknown_target_gets_the_nearest():
    with pytest.raises(UnknownTarget) as caught:
        find("x86-avx521")
    assert str(caught.value) == "error: no target is called 'x86-avx521'\n  hint: did you mean 'x86-avx512'?"


def test_a_target_like_no_other_gets_the_command():
    with pytest.raises(UnknownTarget) as caught:
        find("zzzzzzz")
    assert str(caught.value) == "error: no target is called 'zzzzzzz'\n  hint: `stackc targets` lists them all"


def board(tmp_path, text):
    file = tmp_path / "x86/boards/mine.toml"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    return file


GOOD = 'summary = "mine"\ncodegen = { kind = "llvm" }\n'


def test_a_board_is_named_after_its_file_and_belongs_to_its_folder(tmp_path):
    target = load(board(tmp_path, GOOD + "[machine]\nvector_bytes = 32\n"))
    assert (target.name, target.family, target.machine.vector_bytes) == ("mine", "x86", 32)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (GOOD + "feature = []\n", "error: unknown key 'feature'\n  at: FILE\n  hint: did you mean 'features'?"),
        (GOOD + "[machine]\nvector_byte = 4\n", "error: unknown key 'vector_byte'\n  at: FILE\n  hint: did you mean 'vector_bytes'?"),
        (GOOD + "qqq = 1\n", "error: unknown key 'qqq'\n  at: FILE\n  hint: the keys are core, summary, codegen, features, memory, board"),
        (
            GOOD + 'family = "x86"\n',
            "error: unknown key 'family'\n  at: FILE\n  hint: the keys are core, summary, codegen, features, memory, board",
        ),
        ('summary = "mine"\n', "error: the key 'codegen' is missing\n  at: FILE"),
        ('codegen = { kind = "llvm" }\n', "error: the key 'summary' is missing\n  at: FILE"),
    ],
)
def test_a_wrong_board_file_is_reported_with_its_name(text, what, tmp_path):
    file = board(tmp_path, text)
    with pytest.raises(StackError) as caught:
        load(file)
    assert str(caught.value) == what.replace("FILE", str(file))


def test_a_board_file_that_is_no_toml(tmp_path):
    file = board(tmp_path, "summary =")
    with pytest.raises(StackError) as caught:
        load(file)
    assert str(caught.value).startswith("error: the board file is not TOML: ")
    assert caught.value.at == str(file)


CORE = GOOD + "[machine]\nvector_bytes = 16\nfpu = true\n"
FLASH = '[[memory]]\nname = "flash"\nkind = "flash"\nbase = 0\nbytes = 1024\n'
RAM = '[[memory]]\nname = "ram"\nkind = "ram"\nbase = 0x2000_0000\nbytes = 64\nspeed = 0.5\n'


def cortex_board(tmp_path, text):
    file = tmp_path / "cortex_m/boards/mine.toml"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    file.with_name("core.toml").write_text(CORE)
    return file


def test_a_board_takes_over_what_its_core_is_and_adds_its_memories(tmp_path):
    text = 'summary = "a board"\ncore = "core"\n[machine]\nfpu = false\n[board]\nclock_hz = 4\n'
    target = load(cortex_board(tmp_path, text + FLASH + RAM))
    assert (target.summary, target.codegen) == ("a board", {"kind": "llvm"})
    assert (target.machine.vector_bytes, target.machine.fpu) == (16, False)
    assert list(target.memory) == [Memory("flash", "flash", 0, 1024, 1.0), Memory("ram", "ram", 0x2000_0000, 64, 0.5)]
    assert target.board == {"clock_hz": 4}


BOARD = 'summary = "a board"\ncore = "core"\n'


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('summary = "a"\ncore = "cor"\n', "error: no core is called 'cor'\n  at: FILE\n  hint: did you mean 'core'?"),
        ('summary = "a"\ncore = "zzz"\n', "error: no core is called 'zzz'\n  at: FILE"),
        (BOARD + "[board]\nclock = 1\n", "error: unknown key 'clock' in [board]\n  at: FILE\n  hint: did you mean 'clock_hz'?"),
        (BOARD + FLASH.replace("bytes", "byte"), "error: unknown key 'byte'\n  at: FILE\n  hint: did you mean 'bytes'?"),
        (BOARD + FLASH.replace("base = 0\n", ""), "error: the key 'base' is missing in a [[memory]]\n  at: FILE"),
        (
            BOARD + FLASH.replace('"flash"\nbase', '"rom"\nbase'),
            "error: the memory 'flash' is of kind 'rom'\n  at: FILE\n  hint: a memory is 'flash' or 'ram'",
        ),
        (
            BOARD + RAM.replace('name = "ram"', 'name = "my ram"'),
            "error: 'my ram' cannot name a memory\n  at: FILE\n  hint: letters, digits and underscores; linker scripts use it",
        ),
        (
            BOARD + RAM.replace("0.5", "2.0"),
            "error: the memory 'ram' has a wrong number\n  at: FILE\n  hint: bytes are above 0, speed is above 0 and 1.0 at most",
        ),
        (
            BOARD + RAM.replace("bytes = 64", 'bytes = "64 KB"'),
            "error: in a [[memory]], bytes = '64 KB' is of the wrong type\n  at: FILE\n  hint: name and kind are text, "
            "base and bytes whole numbers such as 0x2000_0000, speed is a number",
        ),
        (BOARD + "memory = 4\n", "error: 'memory' is no table\n  at: FILE\n  hint: write [[memory]]"),
        (BOARD + "board = 4\n", "error: 'board' is no table\n  at: FILE\n  hint: write [board]"),
        (
            BOARD + '[board]\nclock_hz = "16 MHz"\n',
            "error: in [board], clock_hz = '16 MHz' is of the wrong type\n  at: FILE\n  hint: targets/cortex_m/board.py shows each key",
        ),
        (
            BOARD + "[board]\nsetup = [[0x4002_3830, 1, 1]]\n",
            "error: in [board], setup has the step [1073887280, 1, 1]\n  at: FILE\n"
            '  hint: a step is ["write" or "await", address, mask, value]',
        ),
        (
            BOARD + '[board]\nqemu = "mps2-an386"\n',
            "error: in [board], qemu needs clock_hz\n  at: FILE\n  hint: the clock of QEMU's machine, by which instructions are counted",
        ),
        (BOARD + RAM, "error: the board has no memory of kind 'flash'\n  at: FILE\n  hint: a firmware needs 'flash' and 'ram'"),
        (BOARD + FLASH, "error: the board has no memory of kind 'ram'\n  at: FILE\n  hint: a firmware needs 'flash' and 'ram'"),
        (
            BOARD + '[board]\nboot = "rp2350"\n',
            "error: boot knows no 'rp2350'\n  at: FILE\n  hint: it is rp2040, or absent as for most chips",
        ),
        (
            BOARD + '[board]\nflash_with = { tool = "jlink" }\n',
            "error: flash_with knows no tool 'jlink'\n  at: FILE\n  hint: the tools are pyocd, openocd, bossac, picotool",
        ),
        (
            BOARD + '[board]\nflash_with = { target = "nrf52840" }\n',
            "error: flash_with has no 'tool'\n  at: FILE\n  hint: the tools are pyocd, openocd, bossac, picotool",
        ),
        (
            BOARD + '[board]\nflash_with = { tool = "openocd", target = "t.cfg" }\n',
            "error: flash_with has no 'interface'\n  at: FILE\n  hint: the tool 'openocd' needs interface, target",
        ),
        (
            BOARD + '[board]\nuart = { driver = "stm32", base = 0x4000_4400 }\n',
            "error: uart has no 'divider'\n  at: FILE\n  hint: the driver 'stm32' needs base, divider",
        ),
        (BOARD + FLASH + FLASH.replace("base = 0", "base = 4096"), "error: two memories are called 'flash'\n  at: FILE"),
        (BOARD + FLASH + RAM.replace("0x2000_0000", "1000"), "error: the memories 'flash' and 'ram' overlap\n  at: FILE"),
    ],
)
def test_a_wrong_board_is_reported_with_its_file(text, what, tmp_path):
    file = cortex_board(tmp_path, text)
    with pytest.raises(StackError) as caught:
        load(file)
    assert str(caught.value) == what.replace("FILE", str(file))


def test_a_board_in_a_family_without_boards(tmp_path):
    file = board(tmp_path, GOOD + "[board]\nclock_hz = 4\n")
    with pytest.raises(StackError) as caught:
        load(file)
    assert str(caught.value) == f"error: targets of the family 'x86' have no table [board]\n  at: {file}"


OWN = 'summary = "my own"\ncore = "cortex-m4"\n'


def own(tmp_path, text):
    file = tmp_path / "robot.toml"
    file.write_text(text)
    return file


def test_a_file_anywhere_describes_a_board_of_the_user_s_own(tmp_path):
    target = find(str(own(tmp_path, OWN + FLASH + RAM)))
    assert (target.name, target.family, target.summary) == ("robot", "cortex_m", "my own")
    assert (target.codegen, target.machine) == (find("cortex-m4").codegen, find("cortex-m4").machine)
    assert [memory.name for memory in target.memory] == ["flash", "ram"]


def test_a_board_of_its_own_asks_for_the_features_of_what_it_builds_on(tmp_path):
    target = find(str(own(tmp_path, 'summary = "my own"\ncore = "x86-avx2"\n[machine]\ncores = 2\n')))
    assert (target.family, target.features, target.machine.cores) == ("x86", find("x86-avx2").features, 2)


@pytest.mark.parametrize("ask", [find, check_name])
@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('summary = "my own"\n', "error: the key 'core' is missing\n  at: FILE\n"
                                 '  hint: it names what the board has: core = "cortex-m4", for example'),
        (OWN.replace("m4", "m44"), "error: no core is called 'cortex-m44'\n  at: FILE\n  hint: did you mean 'cortex-m4'?"),
        (OWN.replace('"cortex-m4"', "[4]"), "error: no core is called '[4]'\n  at: FILE"),
        (OWN + "flash = 4\n", "error: unknown key 'flash'\n  at: FILE\n"
                              "  hint: the keys are core, summary, codegen, features, memory, board"),
    ],
)  # fmt: skip
def test_a_wrong_file_of_the_user_s_own(text, what, ask, tmp_path):
    file = own(tmp_path, text)
    with pytest.raises(StackError) as caught:
        ask(str(file))
    assert str(caught.value) == what.replace("FILE", str(file))


def test_a_board_file_that_is_not_there():
    with pytest.raises(UnknownTarget) as caught:
        find("boards/robot.toml")
    assert str(caught.value) == (
        "error: there is no such board file\n  at: boards/robot.toml\n  hint: `stackc boards` lists the boards that need no file"
    )
