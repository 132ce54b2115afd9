"""Walk the graph once, in order, knowing each tensor's type or value, and keep only what must run.

    s = Shape(x); n = Gather(s, 0); t = Concat(n, -1)
    y = Reshape(Identity(x), t)                           ->   y = Reshape(x, [1, 2048])      where x is [1, 128, 16]

With every input's shape known, what computes shapes is constant and is evaluated here; Identity and Dropout vanish; an If whose condition
is known becomes its branch; an operator that the importer lacks or gets wrong is rewritten (`rewrites`) or replaced by its definition
(`expand`). A model exported in training mode is compiled for inference: Dropout passes its input, BatchNormalization uses its stored
statistics. Dead nodes and unused weights are dropped.
"""

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from stack.errors import BadModel
from stack.frontends.onnx.evaluate import evaluate, worth_folding
from stack.frontends.onnx.expand import expand, rename
from stack.frontends.onnx.graph import Graph, Node
from stack.frontends.onnx.importer import imports
from stack.frontends.onnx.read import Source, to_array
from stack.frontends.onnx.rewrites import rewrite

SHAPE_DATA = 1024  # constants up to this many elements are shown to shape inference: axes, sizes, starts


def simplify(source: Source, inputs: dict[str, onnx.TypeProto]) -> Graph:
    """The graph that remains for these inputs."""
    walk = Walk(source, Graph(inputs, types=dict(inputs), values=dict(source.weights)))
    for proto in source.proto.graph.node:
        walk.visit(Node(proto, source.opset))
    graph = walk.graph
    graph.outputs = [walk.resolve(output.name) for output in source.proto.graph.output]
    for name, output in zip(graph.outputs, source.proto.graph.output, strict=True):
        if name not in graph.types and name not in graph.values:
            raise BadModel(f"nothing computes output {output.name!r}", at=source.at, hint="export the model again")
    drop_unused(graph)
    return graph


def drop_unused(graph: Graph) -> None:
    needed, kept = set(graph.outputs), []
    for node in reversed(graph.nodes):
        if needed.intersection(node.proto.output):
            kept.append(node)
            needed.update(node.proto.input)
    graph.nodes = kept[::-1]
    graph.values = {name: array for name, array in graph.values.items() if name in needed}


def names_read(graph: onnx.GraphProto) -> set[str]:
    """What the nodes of a graph and of the graphs within it take."""
    names = {name for node in graph.node for name in node.input}
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                names |= names_read(attribute.g) | {output.name for output in attribute.g.output}
    return names


class Walk:
    """The graph as far as it is simplified, and which names stand for others."""

    def __init__(self, source: Source, graph: Graph) -> None:
        self.source, self.graph = source, graph
        self.aliases: dict[str, str] = {}
        self.used = {output.name for output in source.proto.graph.output} | names_read(source.proto.graph)
        self.expanded = 0

    def resolve(self, name: str) -> str:
        while name in self.aliases:
            name = self.aliases[name]
        return name

    def visit(self, node: Node) -> None:
        """Simplify one node into the graph."""
        proto = onnx.NodeProto()
        proto.CopyFrom(node.proto)
        proto.input[:] = [self.resolve(name) for name in proto.input]
        while proto.input and not proto.input[-1]:
            del proto.input[-1]
        self.drop_outputs(proto)
        node = Node(proto, node.opset)
        for name in proto.input:
            if name and name not in self.graph.types and name not in self.graph.values:
                raise BadModel(f"input {name!r} of {node.label} does not exist", at=self.source.at, hint="export the model again")
        for name in proto.output:
            if name and (name in self.graph.types or name in self.graph.values or name in self.aliases):
                raise BadModel(f"the output {name!r} of {node.label} is there already", at=self.source.at, hint="export the model again")
        if not (self.alias(node) or self.constant(node) or self.branch(node) or self.fold(node)):
            replacement = self.replace(node)
            if replacement is None:
                self.keep(node)
            else:
                self.visit_all(replacement)

    def drop_outputs(self, proto: onnx.NodeProto) -> None:
        """Leave out the last outputs that nobody reads; of BatchNormalization's, all or none, as its definition demands; none of Split's,
        whose number says where it cuts."""
        count = len(proto.output)
        if proto.op_type == "Split":
            return
        while count > 1 and proto.output[count - 1] not in self.used:
            count -= 1
        if count == 1 or proto.op_type != "BatchNormalization":
            del proto.output[count:]

    def visit_all(self, nodes: list[Node]) -> None:
        self.used.update(name for node in nodes for name in node.proto.input)
        for node in nodes:
            self.visit(node)

    def alias(self, node: Node) -> bool:
        """Identity, and Dropout with its mask."""
        proto = node.proto
        if node.op not in ("Identity", "Dropout"):
            return False
        self.aliases[proto.output[0]] = proto.input[0]
        if len(proto.output) > 1 and proto.output[1]:
            shape, dtype = self.graph.shape(proto.input[0]), self.graph.dtype(proto.input[0])
            if shape is None:
                return False
            self.graph.values[proto.output[1]] = np.broadcast_to(np.ones((), np.bool_ if node.opset >= 10 else dtype), shape)
        return True

    def constant(self, node: Node) -> bool:
        """Constant, and the shapes of tensors."""
        proto, graph = node.proto, self.graph
        if node.op == "Constant":
            attribute = proto.attribute[0]
            value = helper.get_attribute_value(attribute)
            if attribute.name == "value":
                value = to_array(attribute.t, self.source.folder, self.source.at)
            elif attribute.name == "sparse_value":
                return False
            dtypes = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
            graph.values[proto.output[0]] = np.asarray(value, dtypes.get(attribute.name))
            return True
        if node.op in ("Shape", "Size"):
            shape = graph.shape(proto.input[0])
            if shape is None:
                return False
            start, end = node.attribute("start", 0), node.attribute("end", len(shape))
            result = shape[slice(start, end)] if node.op == "Shape" else int(np.prod(shape, dtype=np.int64))
            graph.values[proto.output[0]] = np.asarray(result, np.int64)
            return True
        return False

    def branch(self, node: Node) -> bool:
        """An If whose condition is known."""
        if node.op != "If" or node.proto.input[0] not in self.graph.values:
            return False
        taken = node.attribute("then_branch" if self.graph.values[node.proto.input[0]].all() else "else_branch")
        prefix, names = self.prefix(), {}
        for tensor in taken.initializer:
            names[tensor.name] = prefix + tensor.name
            self.graph.values[prefix + tensor.name] = to_array(tensor, self.source.folder, self.source.at)
        self.used.update(prefix + name for name in names_read(taken) | {output.name for output in taken.output})
        for inner in taken.node:
            names |= {name: prefix + name for name in inner.output if name}
            self.visit(Node(rename(inner, names, {}, prefix, outer=True), node.opset))
        for output, result in zip(node.proto.output, taken.output, strict=True):
            self.aliases[output] = self.resolve(names.get(result.name, result.name))
        return True

    def fold(self, node: Node) -> bool:
        """A node all of whose inputs are known."""
        graph, proto = self.graph, node.proto
        if node.proto.domain not in ("", "ai.onnx") or any(name and name not in graph.values for name in proto.input):
            return False
        inputs = [graph.values.get(name) for name in proto.input]
        types = self.infer(node)
        for kind in types.values():
            extents = [dim.dim_value for dim in kind.tensor_type.shape.dim]
            if not worth_folding(inputs, int(np.prod(extents, dtype=np.int64))):
                return False
        outputs = evaluate(node, inputs)
        if outputs is None:
            return False
        for name, array in zip([name for name in proto.output if name], outputs, strict=True):
            elem_type = types[name].tensor_type.elem_type if name in types else 0
            graph.values[name] = array.astype(helper.tensor_dtype_to_np_dtype(elem_type), copy=False) if elem_type else array
        return True

    def replace(self, node: Node) -> list[Node] | None:
        prefix = self.prefix()
        try:
            nodes = rewrite(node, self.graph, prefix)
        except (ValueError, TypeError, IndexError, KeyError) as error:  # lists of lengths that do not go together, and their like
            reason = str(error).split("\n")[0]
            raise BadModel(
                f"the attributes of {node.label} do not fit it: {reason}", at=self.source.at, hint="export the model again"
            ) from error
        if nodes is not None:
            return nodes
        return None if imports(node) else expand(node, self.known_types(node), prefix)

    def keep(self, node: Node) -> None:
        self.graph.nodes.append(node)
        types = self.infer(node)
        for name in node.proto.output:
            if name:
                self.graph.types[name] = types.get(name, onnx.TypeProto())

    def known_types(self, node: Node) -> dict[str, onnx.TypeProto]:
        def kind(name: str) -> onnx.TypeProto:
            if name in self.graph.types:
                return self.graph.types[name]
            array = self.graph.values[name]
            return helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)

        outer = {} if not any(attribute.HasField("g") for attribute in node.proto.attribute) else self.graph.types
        return dict(outer) | {name: kind(name) for name in node.proto.input if name}

    def infer(self, node: Node) -> dict[str, onnx.TypeProto]:
        """The types of the node's outputs, as far as ONNX can tell. Raises BadModel where the node's inputs do not fit it."""
        try:
            schema = onnx.defs.get_schema(node.proto.op_type, node.opset, node.proto.domain)
        except onnx.defs.SchemaError:
            return {}
        values = self.graph.values
        small = {name: values[name] for name in node.proto.input if name in values and values[name].size <= SHAPE_DATA}
        data = {name: numpy_helper.from_array(np.asarray(array, order="C"), name) for name, array in small.items()}
        opsets = [helper.make_opsetid("", node.opset)]
        try:
            return shape_inference.infer_node_outputs(schema, node.proto, self.known_types(node), data, opset_imports=opsets)
        except (shape_inference.InferenceError, onnx.checker.ValidationError, ValueError) as error:
            reason = str(error).split(") ", 1)[-1].strip().split("\n")[0]
            shapes = ", ".join(str(list(self.graph.shape(name) or "?")) for name in node.proto.input if name)
            raise BadModel(
                f"the inputs of {node.label} do not fit it: {reason}",
                at=f"{self.source.at}: inputs of shape {shapes}",
                hint="check the shapes that you gave; the model itself may fix some sizes",
            ) from error

    def prefix(self) -> str:
        """Before the names that a replacement brings in."""
        self.expanded += 1
        return f"stack{self.expanded}/"
