"""Write a graph pass as a table: operator name -> functions that look at one call and return what takes its place, or None.

    @rewrites("relax.nn.relu")                                     y = relu(relu(x))   ->   y = relu(x)
    def relu_twice(call, graph): ...

    drop_relu_twice = rewrite_pass("drop_relu_twice", [relu_twice])

Models here are straight lines of calls, so one walk from the first binding to the last sees every producer before its users, and rewrites
a replacement again at once. Walks repeat until one changes nothing, hence a second run of such a pass never does. A walk over a hundred
layers takes milliseconds; the patterns of `tvm.relax.dpl` are matched against the whole function again after each change.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.ir import GenericConst
from tvm.ir.transform import Pass
from tvm.relax.expr import _update_type  # the one way to give an expression its type where no BlockBuilder made it
from tvm_ffi import structural_equal

ALIGN = 64  # of TVM's tensors, in bytes; numpy's own large arrays never lie so
SHARED = 1 << 16  # bytes from which copies are worth avoiding
MAX_WALKS = 50  # a pass that needs more has two rules that undo each other

Rule = Callable[[relax.Call, "Graph"], relax.Expr | None]


def rewrites(*operators: str) -> Callable[[Rule], Rule]:
    """Say which operators a rule looks at. `TupleGetItem` names that node."""

    def mark(rule: Rule) -> Rule:
        rule.operators = operators  # type: ignore[attr-defined]  # a function may carry attributes; its type cannot say so
        return rule

    return mark


def op_name(expr: relax.Expr) -> str:
    """`relax.nn.conv2d` for a call of that operator, "" for anything that is no call of an operator."""
    if isinstance(expr, relax.TupleGetItem):
        return "TupleGetItem"
    return str(expr.op.name) if isinstance(expr, relax.Call) and isinstance(expr.op, tvm.ir.Op) else ""


def shape(expr: relax.Expr) -> tuple[int, ...]:
    return tuple(int(extent) for extent in expr.ty.shape)


def dtype(expr: relax.Expr) -> str:
    return str(expr.ty.dtype.dtype)


def is_tensor(expr: relax.Expr) -> bool:
    """A tensor whose every extent is known."""
    if not isinstance(expr.ty, relax.TensorType) or not isinstance(expr.ty.shape, relax.ShapeExpr):
        return False
    return all(isinstance(extent, tvm.tirx.IntImm) for extent in expr.ty.shape)


def array(expr: relax.Expr) -> np.ndarray | None:
    """The value of a constant, not copied; None where `expr` is no constant."""
    return np.from_dlpack(expr.value) if isinstance(expr, GenericConst) else None


def constant(value: np.ndarray) -> relax.Expr:
    """A constant of the array's dtype. A large array whose memory is that of a tensor, from `blank` or `array`, is not copied."""
    dense = np.ascontiguousarray(value).reshape(value.shape)
    shared = dense.nbytes >= SHARED and dense.ctypes.data % ALIGN == 0 and dense.flags.writeable
    return relax.const(tvm.runtime.from_dlpack(dense) if shared else tvm.runtime.tensor(dense))


def blank(shape: Sequence[int], dtype: str | np.dtype) -> np.ndarray:
    """An array to fill for `constant`. New memory costs more than what is computed into it, where there are hundreds of megabytes."""
    return np.from_dlpack(tvm.runtime.empty(tuple(shape), str(dtype)))


def number(expr: relax.Expr) -> float | None:
    """The value of a constant whose elements are all the same; None for anything else."""
    value = array(expr)
    return float(value.flat[0]) if value is not None and value.size and (value == value.flat[0]).all() else None


class Graph:
    """What a rule may ask about the function around the call it looks at."""

    def __init__(self, module: tvm.IRModule, function: relax.Function) -> None:
        self.module = module
        self.made: dict[relax.Var, relax.Expr] = {}
        self.uses: Counter[relax.Var] = Counter(relax.analysis.free_vars(function.body.body))
        for binding in function.body.blocks[0].bindings:
            self.uses.update(variables(binding.value))

    def source(self, expr: relax.Expr) -> relax.Expr:
        """The call (or tuple) that made a variable; `expr` itself where none did."""
        return self.made.get(expr, expr) if isinstance(expr, relax.Var) else expr

    def once(self, expr: relax.Expr) -> bool:
        """Whether nothing else uses this variable."""
        return isinstance(expr, relax.Var) and self.uses[expr] == 1

    def only(self, expr: relax.Expr, operator: str) -> relax.Call | None:
        """The call of `operator` that made `expr`, where `expr` has no other user."""
        source = self.source(expr)
        return source if op_name(source) == operator and self.once(expr) else None


def variables(expr: relax.Expr) -> list[relax.Var]:
    """The variables that a flat value reads, one entry for each place."""
    if isinstance(expr, relax.Var):
        return [expr]
    if isinstance(expr, relax.Call):
        return [var for argument in expr.args for var in variables(argument)]
    if isinstance(expr, relax.Tuple):
        return [var for field in expr.fields for var in variables(field)]
    return variables(expr.tuple_value) if isinstance(expr, relax.TupleGetItem) else []


class Walk:
    """One walk over the bindings of a function."""

    def __init__(self, graph: Graph, rules: dict[str, list[Rule]]) -> None:
        self.graph, self.rules = graph, rules
        self.builder = relax.BlockBuilder()
        self.replaced: dict[relax.Var, relax.Expr] = {}
        self.bindings: list[relax.Binding] = []
        self.changed = False

    def run(self, function: relax.Function) -> relax.Function:
        """`function` itself where no rule fires."""
        (block,) = function.body.blocks
        for binding in block.bindings:
            self.bind(binding)
        if not self.changed:
            return function
        result = self.renew(function.body.body)
        body = relax.SeqExpr([relax.DataflowBlock(live(self.bindings, result))], result)
        _update_type(body, result.ty)
        return relax.Function(function.params, body, function.ret_ty, function.is_pure, function.attrs)

    def bind(self, binding: relax.Binding) -> None:
        var, old = binding.var, binding.value
        value = self.settle(self.renew(old))
        if value is old:
            self.add(binding)
            return
        self.changed = True
        assert structural_equal(value.ty, var.ty), f"{old} : {var.ty} was replaced by {value} : {value.ty}"
        if isinstance(value, relax.Var | GenericConst) and isinstance(var, relax.DataflowVar):
            self.replaced[var] = value
            if isinstance(value, relax.Var):
                self.graph.uses[value] += self.graph.uses[var] - 1
        else:
            self.add(relax.VarBinding(var, value))

    def add(self, binding: relax.Binding) -> None:
        self.bindings.append(binding)
        self.graph.made[binding.var] = binding.value

    def renew(self, expr: relax.Expr) -> relax.Expr:
        """`expr` over the variables of the new function; the same object where nothing in it was replaced."""
        if isinstance(expr, relax.Var):
            return self.replaced.get(expr, expr)
        if isinstance(expr, relax.Call):
            before = list(expr.args)  # each access makes new wrappers, and `is` compares those
            arguments = [self.renew(argument) for argument in before]
            if all(new is old for new, old in zip(arguments, before, strict=True)):
                return expr
            return self.builder.normalize(relax.Call(expr.op, arguments, expr.attrs, expr.ty_args))
        if isinstance(expr, relax.Tuple):
            before = list(expr.fields)
            fields = [self.renew(field) for field in before]
            unchanged = all(new is old for new, old in zip(fields, before, strict=True))
            return expr if unchanged else self.builder.normalize(relax.Tuple(fields))
        if isinstance(expr, relax.TupleGetItem):
            old = expr.tuple_value
            whole = self.renew(old)
            return expr if whole is old else self.builder.normalize(relax.TupleGetItem(whole, expr.index))
        return expr

    def settle(self, expr: relax.Expr) -> relax.Expr:
        """Apply rules until none fires; what comes back is flat."""
        for rule in self.rules.get(op_name(expr), []):
            new = rule(expr, self.graph)
            if new is not None:
                self.graph.uses.subtract(variables(expr))
                flat = self.flatten(new)
                self.graph.uses.update(variables(flat))
                return self.settle(flat)
        return expr

    def flatten(self, expr: relax.Expr) -> relax.Expr:
        """Bind the calls inside a call to new variables."""
        if isinstance(expr, relax.Call):
            arguments = [self.name(argument) for argument in expr.args]
            return self.builder.normalize(relax.Call(expr.op, arguments, expr.attrs, expr.ty_args))
        if isinstance(expr, relax.TupleGetItem):
            return self.builder.normalize(relax.TupleGetItem(self.name(expr.tuple_value), expr.index))
        return self.builder.normalize(expr) if isinstance(expr, relax.Tuple) else expr

    def name(self, expr: relax.Expr) -> relax.Expr:
        if isinstance(expr, relax.Tuple):
            return relax.Tuple([self.name(field) for field in expr.fields])
        if not isinstance(expr, relax.Call | relax.TupleGetItem):
            return expr
        flat = self.flatten(expr)
        self.graph.uses.update(variables(flat))
        value = self.settle(flat)
        if isinstance(value, relax.Var | GenericConst):
            return value
        var = relax.DataflowVar("lv", value.ty)
        self.add(relax.VarBinding(var, value))
        return var


def live(bindings: Sequence[relax.Binding], result: relax.Expr) -> list[relax.Binding]:
    """The bindings that the result depends on, in order."""
    wanted = set(variables(result))
    kept = []
    for binding in reversed(bindings):
        if binding.var in wanted:
            wanted.update(variables(binding.value))
            kept.append(binding)
    return kept[::-1]


def walk_pass(name: str, make: Callable[[Graph], Walk]) -> Pass:
    """The pass `name` that repeats the walk `make` returns until it changes nothing.

    It leaves functions that are not one dataflow block alone; `ConvertToDataflow` and `CanonicalizeBindings` make them so.
    """

    def run(function: relax.Function, module: tvm.IRModule, _context: Any) -> relax.Function:
        if len(function.body.blocks) != 1 or not isinstance(function.body.blocks[0], relax.DataflowBlock):
            return function
        for _ in range(MAX_WALKS):
            new = make(Graph(module, function)).run(function)
            if new is function:
                return function
            function = new
        raise AssertionError(f"{name} does not come to rest")

    return relax.transform.function_pass(run, opt_level=0, name=name)


def table_of(rules: Sequence[Rule]) -> dict[str, list[Rule]]:
    """The rules that look at each operator, in order."""
    table: dict[str, list[Rule]] = {}
    for rule in rules:
        for operator in rule.operators:  # type: ignore[attr-defined]  # set by the decorator above
            table.setdefault(operator, []).append(rule)
    return table


def rewrite_pass(name: str, rules: Sequence[Rule]) -> Pass:
    """The pass `name` that applies `rules`, earlier ones first, until none fires."""
    table = table_of(rules)
    return walk_pass(name, lambda graph: Walk(graph, table))
