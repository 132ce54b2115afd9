import pytest

from stack.errors import StackError, UnknownTarget
from targets.registry import every, family_of, find, load, names
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
