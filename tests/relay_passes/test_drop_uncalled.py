"""Programs that nobody calls leave the module; called ones stay, in order."""

import tvm
from tvm import relax

from relay_passes.drop_uncalled import drop_uncalled
from relay_passes.pipeline import to_programs
from tests.relay_passes.network import network


def lowered() -> tvm.IRModule:
    return tvm.transform.Sequential(to_programs())(network(lambda x: relax.op.nn.softmax(relax.op.nn.relu(x)), (4, 8)))


def names(module: tvm.IRModule) -> list[str]:
    return sorted(name.name_hint for name in module.functions)


def test_what_nobody_calls_goes() -> None:
    module = lowered()
    program = next(function for name, function in module.functions.items() if name.name_hint != "main")
    more = tvm.IRModule({**dict(module.functions), "lonely": program.with_attr("global_symbol", "lonely")})
    assert "lonely" in names(more)
    assert names(drop_uncalled(more)) == names(module)


def test_what_is_called_stays() -> None:
    module = lowered()
    assert drop_uncalled(module).same_as(module)


def test_planning_leaves_no_program_of_a_copy_that_it_saves() -> None:
    def joined(x: relax.Expr) -> relax.Expr:
        parts = [relax.op.nn.softmax(x, axis=axis) for axis in (2, 3)]
        return relax.op.nn.softmax(relax.op.concat(parts, axis=1), axis=1)

    module = tvm.transform.Sequential(to_programs())(network(joined, (1, 16, 4, 4)))
    assert not [name for name in names(module) if "concat" in name]
