"""TensorIR statements -> lines of C.

acc[0] = 0                                int32_t acc = 0;
for i in range(16):                       for (int i = 0; i < 16; i++) {
    acc[0] = acc[0] + x[i]         ->       acc += x[i];
                                          }
"""

import itertools
import math
import re
from collections.abc import Callable, Collection, Sequence

import tvm_ffi
from tvm import tirx
from tvm.ir import Range, TensorLoad
from tvm.sym import detect_linear_equation

from schedules.mcu.loops import UNROLL
from stack.emit import c_types as c
from stack.emit.c_expressions import Expressions
from stack.emit.c_names import Names, clean
from stack.emit.c_places import Place, Use, are_scalars, elements
from stack.emit.c_share import repeated

SHORTEST_COPY = 8  # bytes; what is shorter reads as well in a loop
UPDATES = {tirx.Add: "+=", tirx.Sub: "-="}


class Statements:
    """Prints the statements of one program into `lines`; `distinct` says that no parameter lies over another."""

    def __init__(self, expressions: Expressions, names: Names, used: Use, offsets: dict[tirx.Expr, int], distinct: bool) -> None:
        self.expressions, self.names, self.used, self.offsets, self.distinct = expressions, names, used, offsets, distinct
        self.parameters = set(expressions.places)
        self.lines: list[str] = []
        self.depth = 1
        self.pending: list[tuple[str, str]] = []  # type and name of variables that the next stores may declare

    def line(self, text: str) -> None:
        self.lines.append("  " * self.depth + text)

    def declare_pending(self) -> None:
        """Variables whose first value is not known where they come into being."""
        for kind in dict.fromkeys(kind for kind, _ in self.pending):
            self.line(f"{kind} {', '.join(name for other, name in self.pending if other == kind)};")
        self.pending = []

    def emit(self, statement: tirx.Stmt) -> None:
        if isinstance(statement, tirx.SeqStmt):
            for index, part in enumerate(statement.seq):
                if isinstance(part, tirx.BufferStore) and not (index and isinstance(statement.seq[index - 1], tirx.BufferStore)):
                    self.share_in_run(statement.seq[index:])
                self.emit(part)
        elif isinstance(statement, tirx.AllocBuffer):
            self.allocate(statement.buffer)
        elif isinstance(statement, tirx.BufferStore):
            self.store(statement)
        elif isinstance(statement, tirx.Evaluate) and isinstance(statement.value, tirx.IntImm):
            pass  # nothing is left of it
        else:
            self.declare_pending()
            self.other(statement)

    def other(self, statement: tirx.Stmt) -> None:
        if isinstance(statement, tirx.For):
            self.loop(statement)
        elif isinstance(statement, tirx.IfThenElse):
            self.branch(statement)
        elif isinstance(statement, tirx.While):
            self.block(f"while ({self.expressions.emit(statement.condition).text})", statement.body)
            self.line("}")
        elif isinstance(statement, tirx.Bind):
            kind, text = self.value(statement.value)
            name = self.names.new(statement.var.name)
            self.line(f"const {kind} {name} = {text.text};")
            self.expressions.variables[statement.var] = c.Text(name, c.POSTFIX, text.kind)
        elif isinstance(statement, tirx.Evaluate):
            self.line(f"{self.expressions.emit(statement.value).text};")
        elif isinstance(statement, tirx.AttrStmt):
            self.emit(statement.body)
        else:
            raise self.expressions.refuse(f"the statement {type(statement).__name__}")

    def allocate(self, buffer: tirx.Expr) -> None:
        dtype = self.expressions.dtype_of_buffer(buffer)
        kind, size = c.DECLARED[dtype], elements(buffer)
        if are_scalars(buffer, self.used):
            wanted = "acc" if buffer.name.endswith(("_local", "_red")) else clean(buffer.name)
            scalars = tuple(self.names.new(wanted if size == 1 else f"{wanted}{i}") for i in range(size))
            self.expressions.places[buffer] = Place("", dtype, size, scalars)
            self.pending += [(kind, name) for name in scalars]
            return
        name = self.names.new(buffer.name)
        offset = self.offsets.get(buffer)
        self.expressions.places[buffer] = Place(name, dtype, size, offset=offset)
        if offset is None:
            self.line(f"{kind} {name}[{size}];")
        else:
            start = f"((char *)scratch + {offset})" if offset else "scratch"
            self.line(f"{kind} *{name} = ({kind} *){start};" if offset else f"{kind} *{name} = {start};")

    def share(self, roots: Sequence[tirx.Expr], changing: Collection[tirx.Expr] = ()) -> None:
        """Give names to what `roots` compute more than once, and what is written between them, `changing`, does not change."""
        printer = self.expressions
        for expr in repeated(roots, printer.numbering, changing):
            if printer.numbering.number(expr) in printer.named:
                continue
            text = printer.emit(expr)
            if re.fullmatch(r"\w+ [+-] \d+", text.text):
                continue  # as short as a name, now that its variable has one
            kind = "int" if str(expr.ty) == "bool" else c.NAMES[text.kind]
            name = self.names.new(self.expressions.places[expr.source].name if isinstance(expr, TensorLoad) else "t")
            self.line(f"const {kind} {name} = {text.text};")
            printer.named[printer.numbering.number(expr)] = c.Text(name, c.POSTFIX, text.kind)

    def share_in_run(self, statements: Sequence[tirx.Stmt]) -> None:
        """The same for the stores at the beginning of `statements`."""
        run = list(itertools.takewhile(lambda statement: isinstance(statement, tirx.BufferStore), statements))
        if len(run) > 1:
            roots = [root for store in run for root in (store.indices[0], self.update(store)[1])]
            self.share(roots, self.clobbered({store.buffer for store in run}))

    def clobbered(self, stored: set[tirx.Expr]) -> set[tirx.Expr]:
        """What changes when `stored` are written: all parameters where one of them may lie over another."""
        return stored | self.parameters if not self.distinct and not stored.isdisjoint(self.parameters) else stored

    def forget(self, stored: set[tirx.Expr] | None) -> None:
        """Drop the names of what writing `stored` changes, None: anything; other names live to the end of their scope."""
        printer = self.expressions
        changed = None if stored is None else self.clobbered(stored)
        reads = printer.numbering.reads
        kept = {n: text for n, text in printer.named.items() if not reads[n] or (changed is not None and reads[n].isdisjoint(changed))}
        printer.named = kept

    def value(self, expr: tirx.Expr) -> tuple[str, c.Text]:
        self.share([expr])
        text = self.expressions.emit(expr)
        return "int" if str(expr.ty) == "bool" else c.NAMES[text.kind], text

    def update(self, store: tirx.BufferStore) -> tuple[str, tirx.Expr]:
        """The operator of an assignment, and what stands behind it."""
        old, value = tirx.BufferLoad(store.buffer, store.indices), store.value
        sign = UPDATES.get(type(value), "=")
        if sign != "=" and self.same(value.a, old):
            return sign, value.b
        if sign == "+=" and self.same(value.b, old):
            return sign, value.a
        return "=", value

    def store(self, store: tirx.BufferStore) -> None:
        printer = self.expressions
        sign, value = self.update(store)
        self.share([store.indices[0], value])
        target = printer.element(store.buffer, store.indices)
        if sign == "+=" and isinstance(value, tirx.Mul) and str(value.ty) == "float32":
            factors = [printer.emit(factor).text for factor in (value.a, value.b)]
            sign, text = "=", f"stack_macf({target}, {', '.join(factors)})"
        else:
            text = printer.emit(value).text
        self.forget({store.buffer})
        kind = next((kind for kind, name in self.pending if name == target), None)
        if kind is not None and sign == "=":
            self.pending.remove((kind, target))
            self.line(f"{kind} {target} = {text};")
            return
        self.declare_pending()
        if sign != "=" and text.startswith("-") and text[1:].isdigit():
            sign, text = "-=" if sign == "+=" else "+=", text[1:]
        self.line(f"{target} {sign} {text};")

    def same(self, a: tirx.Expr, b: tirx.Expr) -> bool:
        numbering = self.expressions.numbering
        return isinstance(a, TensorLoad) and numbering.number(a) == numbering.number(b)

    def block(self, head: str, body: tirx.Stmt) -> None:
        """`head {` and the body; the caller closes it."""
        self.forget(None)  # the body may change what was read, and be repeated
        self.line(f"{head} {{")
        self.names.push()
        named = dict(self.expressions.named)
        self.depth += 1
        self.emit(body)
        self.declare_pending()
        self.depth -= 1
        self.expressions.named = named
        self.names.pop()

    def loop(self, loop: tirx.For) -> None:
        if loop.kind == tirx.ForKind.VECTORIZED or loop.kind == tirx.ForKind.THREAD_BINDING:
            raise self.expressions.refuse("a loop over vector lanes or threads")
        if self.copy(loop):
            return
        printer = self.expressions
        loop = in_steps(loop)
        first, end = printer.emit(loop.min), printer.emit(printer.analyzer.simplify(loop.min + loop.extent))
        printer.analyzer.bind(loop.loop_var, Range.from_min_extent(loop.min, loop.extent))
        self.names.push()
        name = self.names.new(loop.loop_var.name)
        printer.variables[loop.loop_var] = c.Text(name, c.POSTFIX, "i32")
        if UNROLL in loop.annotations:
            self.line(f"#pragma GCC unroll {int(loop.annotations[UNROLL])}")
        step = f"{name}++" if loop.step is None or int(loop.step) == 1 else f"{name} += {int(loop.step)}"
        self.block(f"for (int {name} = {first.text}; {name} < {end.inside(c.SHIFT)}; {step})", loop.body)
        self.line("}")
        self.names.pop()

    def copy(self, loop: tirx.For) -> bool:
        """Print loops that move neighbours, or fill them with one byte, as a call; say whether they do."""
        loops, store = nest(loop)
        printer = self.expressions
        if store is None or printer.places[store.buffer].scalars:
            return False
        count = math.prod(int(each.extent) for each in loops)
        size = count * c.itemsize(printer.dtype_of_buffer(store.buffer))
        start = self.start(store.buffer, store.indices, loops)
        if start is None or size < SHORTEST_COPY:
            return False
        value = store.value
        if isinstance(value, TensorLoad) and value.source.dtype == store.buffer.dtype and not printer.places[value.source].scalars:
            source = self.start(value.source, value.indices, loops)
            if source is None or value.source.same_as(store.buffer):
                return False
            self.line(f"{'memcpy' if self.distinct else 'memmove'}({start}, {source}, {size});")
            return True
        if isinstance(value, tirx.IntImm) and (c.itemsize(str(value.ty)) == 1 or int(value) == 0):
            self.line(f"memset({start}, {int(value)}, {size});")
            return True
        if isinstance(value, tirx.FloatImm) and str(float(value.value)) == "0.0":
            self.line(f"memset({start}, 0, {size});")
            return True
        return False

    def start(self, buffer: tirx.Expr, indices: list[tirx.Expr], loops: list[tirx.For]) -> str | None:
        """Where the elements of `loops` begin, None where they are no neighbours in that order."""
        printer = self.expressions
        (address,) = indices
        step = 1
        for loop in reversed(loops):
            parts = detect_linear_equation(address, [loop.loop_var])
            if not parts or not isinstance(parts[0], tirx.IntImm) or int(parts[0]) != step:
                return None
            step *= int(loop.extent)
            address = tvm_ffi.structural_map(address, (tirx.Var, replacing(loop.loop_var, loop.min)))
        text, name = printer.emit(printer.analyzer.simplify(address)).text, printer.places[buffer].name
        return name if text == "0" else f"{name} + {text}"

    def branch(self, branch: tirx.IfThenElse) -> None:
        printer = self.expressions
        with printer.analyzer.constraint_scope(branch.condition):
            self.block(f"if ({printer.emit(branch.condition).text})", branch.then_case)
        if branch.else_case is not None:
            with printer.analyzer.constraint_scope(tirx.Not(branch.condition)):
                self.block("} else", branch.else_case)
        self.line("}")


def nest(loop: tirx.For) -> tuple[list[tirx.For], tirx.BufferStore | None]:
    """Loops around one store alone, outermost first; None where there is something else in them."""
    loops, body = [], loop
    while isinstance(body, tirx.For) and isinstance(body.extent, tirx.IntImm):
        loops.append(body)
        body = body.body
    return loops, body if isinstance(body, tirx.BufferStore) else None


def replacing(old: tirx.Var, new: tirx.Expr) -> Callable[[tirx.Var], tirx.Expr]:
    return lambda var: new if var.same_as(old) else var


def in_steps(loop: tirx.For) -> tirx.For:
    """`for i in range(8): a[i * 4 + 1]` as `for i in range(0, 32, 4): a[i + 1]`."""
    factors: list[int] = []
    uses: list[tirx.Var] = []

    def product(node: tirx.Mul) -> None:
        if node.a.same_as(loop.loop_var) and isinstance(node.b, tirx.IntImm):
            factors.append(int(node.b))

    def variable(node: tirx.Var) -> None:
        if node.same_as(loop.loop_var):
            uses.append(node)

    tvm_ffi.structural_walk(loop.body, [(tirx.Mul, product), (tirx.Var, variable)])
    step = math.gcd(*factors) if factors else 1
    split = loop.loop_var.name.endswith("_0")
    known = isinstance(loop.extent, tirx.IntImm) and isinstance(loop.min, tirx.IntImm)
    if not split or not known or step < 2 or len(uses) != len(factors):
        return loop
    dtype = str(loop.loop_var.ty)
    var = tirx.Var(loop.loop_var.name, dtype)

    def divide(node: tirx.Mul) -> tirx.Expr:
        if not node.a.same_as(loop.loop_var):
            return node
        factor = int(node.b) // step
        return var if factor == 1 else var * tirx.const(factor, dtype)

    body = tvm_ffi.structural_map(loop.body, (tirx.Mul, divide))
    first, extent = (tirx.const(int(value) * step, dtype) for value in (loop.min, loop.extent))
    return tirx.For(var, first, extent, loop.kind, body, None, loop.annotations, tirx.const(step, dtype))
