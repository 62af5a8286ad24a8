"""Traced functions in operations that cost little to hand to XLA.

For some of its operations TensorFlow sets MLIR up anew wherever one stands in a graph: 3.5 ms each, where all
others take 0.04 to 0.2. What XLA is given for their equals here is the same to the last bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

# Of one tensor, with the name of what each gives. Not all that `_UnaryOpsComposition` knows: it has formulas
# of its own for some.
UNARY = {
    **dict.fromkeys(("Abs", "Atan", "Atanh", "Ceil", "Cos", "Cosh", "Exp", "Expm1"), "y"),
    **dict.fromkeys(("Floor", "Rsqrt", "Sigmoid", "Sinh", "Sqrt", "Tanh"), "y"),
    **dict.fromkeys(("Elu", "Relu", "Relu6", "Selu"), "activations"),
}
DTYPES = {dtype.as_datatype_enum: dtype for dtype in (tf.float32, tf.float64, tf.float16)}  # that it takes


def reword(function: Any) -> None:
    """Changes a function (a `FunctionDef`), which goes on to do the same."""
    moved: dict[str, str] = {}  # what nodes give, by its old name
    for node in list(function.node_def):
        if "T" not in node.attr or node.attr["T"].type not in DTYPES:  # to ask for an attribute makes one
            continue
        if node.op in UNARY:
            moved[f"{node.name}:{UNARY[node.op]}:0"] = f"{node.name}:y:0"
            node.attr["op_names"].list.s.append(node.op.encode())
            node.op = "_UnaryOpsComposition"
        elif node.op == "ReluGrad":
            words = _Words(function, node)
            gradients, features = node.input[:2]
            zero = words.number(0)
            words.put("SelectV2", words.compare("Greater", features, zero), gradients, zero)
            moved[f"{node.name}:backprops:0"] = f"{node.name}:output:0"
        elif node.op == "Sign":
            words = _Words(function, node)
            x, zero = node.input[0], words.number(0)
            rest = words.multiply(x, zero)  # a zero keeps its sign, and what is no number stays none
            below = words.select(words.compare("Less", x, zero), words.number(-1), rest)
            words.put("SelectV2", words.compare("Greater", x, zero), words.number(1), below)
            moved[f"{node.name}:y:0"] = f"{node.name}:output:0"
        elif node.op == "IsFinite":
            words = _Words(function, node)
            words.put("Less", words.unary("Abs", node.input[0]), words.number(np.inf))
            moved[f"{node.name}:y:0"] = f"{node.name}:z:0"
        elif node.op in ("Inv", "Reciprocal"):
            words = _Words(function, node)
            words.put("RealDiv", words.number(1), node.input[0])
            moved[f"{node.name}:y:0"] = f"{node.name}:z:0"
    for node in function.node_def:
        for i, name in enumerate(node.input):
            if name in moved:
                node.input[i] = moved[name]
    for key, name in [*function.ret.items()]:  # of a copy: the map skips some where they are set on the way
        function.ret[key] = moved.get(name, name)


class _Words:
    """Nodes in place of one.

    Args:
        function: that it is in, and that they are added to.
        node: what is put into other words.
    """

    def __init__(self, function: Any, node: Any):
        self.function, self.node, self.count = function, node, 0

    def _add(self, kind: str, inputs: tuple[str, ...], output: str) -> tuple[Any, str]:
        name = f"{self.node.name}/{self.count}"
        self.count += 1
        made = self.function.node_def.add(name=name, op=kind, input=inputs, device=self.node.device)
        return made, f"{name}:{output}:0"

    def number(self, value: float) -> str:
        made, output = self._add("Const", (), "output")
        dtype = DTYPES[self.node.attr["T"].type]
        made.attr["dtype"].type = dtype.as_datatype_enum
        made.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(np.array(value, dtype.as_numpy_dtype)))
        return output

    def compare(self, kind: str, x: str, y: str) -> str:
        return self._typed(kind, (x, y), "z")

    def multiply(self, x: str, y: str) -> str:
        return self._typed("Mul", (x, y), "z")

    def select(self, mask: str, yes: str, no: str) -> str:
        return self._typed("SelectV2", (mask, yes, no), "output")

    def _typed(self, kind: str, inputs: tuple[str, ...], output: str) -> str:
        made, output = self._add(kind, inputs, output)
        made.attr["T"].CopyFrom(self.node.attr["T"])
        return output

    def unary(self, kind: str, x: str) -> str:
        made, output = self._add("_UnaryOpsComposition", (x,), "y")
        made.attr["T"].CopyFrom(self.node.attr["T"])
        made.attr["op_names"].list.s.append(kind.encode())
        return output

    def put(self, kind: str, *inputs: str) -> None:
        """Makes of the node itself an operation of these."""
        after = [name for name in self.node.input if name.startswith("^")]
        self.node.op = kind
        del self.node.input[:]
        self.node.input.extend([*inputs, *after])
