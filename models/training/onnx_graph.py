"""Writes a trained Keras network as a plain ONNX graph, batch norms folded, so that no converter is needed."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

EPSILON_NORM = 1e-3


class Graph:
    """Nodes and constants of a graph under construction; `model` is where the weights come from."""

    def __init__(self, model):
        self.model = model
        self.nodes, self.constants = [], []

    def constant(self, value, dtype=np.float32):
        """The name of a constant tensor."""
        name = f"k{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype), name))
        return name

    def op(self, kind, *inputs, output=None, **attributes):
        """Adds a node; the name of what it gives."""
        output = output or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def weight(self, layer):
        return [np.asarray(w) for w in self.model.get_layer(layer).get_weights()]

    def dense(self, x, layer, output=None):
        kernel, *bias = self.weight(layer)
        y = self.op("MatMul", x, self.constant(kernel), output=None if bias else output)
        return self.op("Add", y, self.constant(bias[0]), output=output) if bias else y

    def convolution(self, x, layer, strides=(1, 1)):
        """A convolution padded as Keras' "same" does: of an even side at stride two, nothing before and one after.

        Its batch norm, the layer `<layer>_norm`, is folded in; a layer with a bias has none.
        """
        kernel, *bias = self.weight(layer)
        if bias:
            shift = bias[0]
        else:
            gamma, beta, mean, variance = self.weight(f"{layer}_norm")
            scale = gamma / np.sqrt(variance + EPSILON_NORM)
            kernel, shift = kernel * scale, beta - mean * scale
        side = kernel.shape[0]
        before = [max(0, side // 2 + 1 - stride) if side > 1 else 0 for stride in strides]
        return self.op("Conv", x, self.constant(kernel.transpose(3, 2, 0, 1)), self.constant(shift), kernel_shape=[side, side],
                       pads=[*before, side // 2, side // 2], strides=list(strides))

    def save(self, path, name, inputs, outputs):
        """Checks and writes the graph; inputs and outputs are `(name, shape)`, a string being a free side."""
        def infos(tensors):
            return [helper.make_tensor_value_info(tensor, TensorProto.FLOAT, shape) for tensor, shape in tensors]

        graph = helper.make_graph(self.nodes, name, infos(inputs), infos(outputs), self.constants)
        file = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8, producer_name="guiji")
        onnx.checker.check_model(file)
        onnx.save(file, path)
