"""The network that puts a plate's four corners right: from a window around a rough guess to the guess's errors."""

import keras
import numpy as np
from keras import layers

from onnx_graph import Graph

WIDTH, HEIGHT = 112, 64  # whole after four halvings
MARGIN_X, MARGIN_Y = 0.25, 0.5  # shown around the guess, shares of its width and height
TRUNK = [  # name, channels, stride, residual
    ("c1", 24, 2, False), ("c2", 32, 2, False), ("c3", 64, 2, False), ("c4", 64, 1, True), ("c5", 96, 2, False), ("c6", 96, 1, True)]
SQUEEZED, HIDDEN = 32, 128


def build():
    """`[N, 64, 112, 3]`, 0..1, to `[N, 8]`: by how much the true corners lie off the guess's, x and y of left top,
    right top, right bottom, left bottom, as shares of the guess's width and height."""
    image = keras.Input((HEIGHT, WIDTH, 3))
    mean = keras.ops.mean(image, axis=(1, 2), keepdims=True)
    x = (image - mean) * 4.0
    for name, channels, stride, residual in TRUNK:
        y = layers.Conv2D(channels, 3, stride, "same", use_bias=False, name=name)(x)
        y = layers.BatchNormalization(name=f"{name}_norm")(y)
        x = keras.ops.relu(y + x if residual else y)
    x = layers.Conv2D(SQUEEZED, 1, use_bias=False, name="squeeze")(x)
    x = keras.ops.relu(layers.BatchNormalization(name="squeeze_norm")(x))
    x = layers.Flatten()(x)
    x = layers.Dense(HIDDEN, activation="relu", name="hidden")(x)
    return keras.Model(image, layers.Dense(8, name="offsets", kernel_initializer=keras.initializers.RandomNormal(stddev=1e-3))(x))


def export_onnx(model, path):
    """Writes the ONNX file: `window` `[N, 3, 64, 112]` to `offsets` `[N, 8]`."""
    graph = Graph(model)
    op = graph.op
    mean = op("ReduceMean", "window", axes=[2, 3], keepdims=1)
    x = op("Mul", op("Sub", "window", mean), graph.constant(np.float32(4.0)))
    for name, _, stride, residual in TRUNK:
        y = graph.convolution(x, name, (stride, stride))
        x = op("Relu", op("Add", y, x) if residual else y)
    x = op("Relu", graph.convolution(x, "squeeze"))
    x = op("Transpose", x, perm=[0, 2, 3, 1])  # Keras flattens with the channels last
    x = op("Reshape", x, graph.constant([0, -1], np.int64))
    x = op("Relu", graph.dense(x, "hidden"))
    graph.dense(x, "offsets", output="offsets")
    graph.save(path, "plate-corners-guiji", [("window", ["batch", 3, HEIGHT, WIDTH])], [("offsets", ["batch", 8])])
