"""Replace an operator by the body that its ONNX definition gives it, in operators that we can import.

y = Celu(x)   ->   y = Max(0, x) + Min(0, alpha * (Exp(x / alpha) - 1))
"""

from collections.abc import Mapping

import onnx
from onnx import defs

from stack.frontends.onnx.graph import Node


def expand(node: Node, types: Mapping[str, onnx.TypeProto], prefix: str) -> list[Node] | None:
    """The nodes of the operator's body with its own inputs and outputs, inner names made unique by `prefix`; None if it has no body."""
    proto = node.proto
    try:
        schema = defs.get_schema(proto.op_type, node.opset, proto.domain)
    except defs.SchemaError:
        return None
    body = function_body(schema, node, types)
    if body is None:
        return None
    names = dict(zip(body.input, list(proto.input) + [""] * len(body.input), strict=False))
    names |= dict(zip(body.output, list(proto.output) + [f"{prefix}{name}" for name in body.output[len(proto.output) :]], strict=True))
    attributes = {attribute.name: attribute for attribute in proto.attribute}
    defaults = {attribute.name: attribute for attribute in body.attribute_proto}
    defaults |= {name: item.default_value for name, item in schema.attributes.items() if item.default_value.name}
    opset = next((entry.version for entry in body.opset_import if entry.domain == ""), node.opset)
    return [Node(rename(inner, names, defaults | attributes, prefix), opset) for inner in body.node]


def function_body(schema: defs.OpSchema, node: Node, types: Mapping[str, onnx.TypeProto]) -> onnx.FunctionProto | None:
    """The newest body that is not newer than the node's opset."""
    if schema.has_context_dependent_function:
        version = newest(schema.context_dependent_function_opset_versions, node.opset)
        given = [types[name].SerializeToString() if name else b"" for name in node.proto.input]
        body = schema.get_context_dependent_function_with_opset_version(version, node.proto.SerializeToString(), given)
    elif schema.has_function:
        body = schema.get_function_with_opset_version(newest(schema.function_opset_versions, node.opset))
    else:
        return None
    return onnx.FunctionProto.FromString(body) if body else None


def newest(versions: list[int], limit: int) -> int:
    return max((version for version in versions if version <= limit), default=min(versions))


def rename(
    proto: onnx.NodeProto, names: dict[str, str], attributes: Mapping[str, onnx.AttributeProto], prefix: str, outer: bool = False
) -> onnx.NodeProto:
    """A copy with the names of its surroundings and with attribute references resolved; subgraphs keep names of their own."""

    def name_of(name: str) -> str:
        return names.setdefault(name, name if outer else f"{prefix}{name}") if name else ""

    new = onnx.NodeProto()
    new.CopyFrom(proto)
    new.name = f"{prefix}{proto.name}" if proto.name else ""
    new.input[:] = [name_of(name) for name in proto.input]
    new.output[:] = [name_of(name) for name in proto.output]
    del new.attribute[:]
    for attribute in proto.attribute:
        if not attribute.ref_attr_name:
            copy = new.attribute.add()
            copy.CopyFrom(attribute)
            if attribute.HasField("g"):
                copy.g.CopyFrom(rename_graph(attribute.g, names, attributes, prefix))
        elif attribute.ref_attr_name in attributes:
            copy = new.attribute.add()
            copy.CopyFrom(attributes[attribute.ref_attr_name])
            copy.name = attribute.name
    return new


def rename_graph(
    graph: onnx.GraphProto, names: Mapping[str, str], attributes: Mapping[str, onnx.AttributeProto], prefix: str
) -> onnx.GraphProto:
    new = onnx.GraphProto()
    new.CopyFrom(graph)
    inner = dict(names)
    local = [item.name for item in graph.input] + [tensor.name for tensor in graph.initializer]
    inner |= {name: f"{prefix}{name}" for name in local + [name for node in graph.node for name in node.output if name]}
    for item in [*new.input, *new.initializer, *new.output]:
        item.name = inner.get(item.name, item.name)
    del new.node[:]
    new.node.extend(rename(node, inner, attributes, prefix, outer=True) for node in graph.node)
    return new
