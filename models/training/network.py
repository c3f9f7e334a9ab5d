"""The reader's network: a small residual convolutional trunk, and one attention map a character position.

Built in Keras for training; `export_onnx` writes the same network, batch norms folded into the convolutions,
as a plain ONNX graph with stable tensor names, so no converter is needed.
"""

import numpy as np

import plate_forms as forms
from onnx_graph import EPSILON_NORM, Graph

# name, output channels, (vertical, horizontal) stride, adds its input
TRUNK = [
    ("c1", 24, (2, 2), False),
    ("c2", 48, (2, 2), False),
    ("c3", 48, (1, 1), True),
    ("c4", 80, (2, 1), False),
    ("c5", 80, (1, 1), True),
    ("c6", 160, (2, 2), False),
    ("c7", 160, (1, 1), True),
]
GRID_HEIGHT, GRID_WIDTH, CHANNELS = forms.HEIGHT // 16, forms.WIDTH // 8, TRUNK[-1][1]
CONTEXT, HIDDEN = 64, 160
EPSILON_CONTRAST = 0.01
POSITIONS, CLASSES = forms.POSITIONS, len(forms.CHARSET)
SIDE_HEADS = {"rows": 2, "colour": len(forms.COLOURS), "kind": len(forms.KINDS), "readable": 1}


def attention_start():
    """Starting attention scores `[position, row, column]`: where characters usually stand.

    Position k looks at the k-th of seven and a half equal slices of any row; the first three also look,
    less strongly, at the top row of a two-row plate. Without the latter, training never finds that row.
    """
    columns = (np.arange(GRID_WIDTH) + 0.5) / GRID_WIDTH
    centres = 0.05 + 0.9 * (np.arange(POSITIONS) + 0.5) / 7.5
    start = -(((columns[None] - centres[:, None]) / 0.08) ** 2).clip(0, 9)
    start = np.repeat(start[:, None], GRID_HEIGHT, axis=1)
    for position, centre in enumerate((0.35, 0.6, 0.68)):
        top = -2 - (((columns - centre) / 0.12) ** 2).clip(0, 9)
        start[position, 0] = np.maximum(start[position, 0], top)
    return start


def build():
    """Keras model from `[N, H, W, 3]` in 0..1 to logits: characters, rows, colour, kind, readable."""
    import keras
    from keras import layers, ops

    class AddEmbedding(layers.Layer):
        """Adds a trained tensor of the given shape to every sample."""

        def __init__(self, shape, **kwargs):
            super().__init__(**kwargs)
            self.shape_ = shape

        def build(self, _):
            self.value = self.add_weight(name="value", shape=self.shape_, initializer=keras.initializers.RandomNormal(stddev=0.02))

        def call(self, x):
            return x + self.value

    def starting_attention(shape, dtype=None):
        return ops.convert_to_tensor(attention_start().reshape(shape), dtype)

    image = keras.Input((forms.HEIGHT, forms.WIDTH, 3))
    mean = ops.mean(image, axis=(1, 2, 3), keepdims=True)
    contrast = ops.sqrt(ops.mean(ops.square(image - mean), axis=(1, 2, 3), keepdims=True))
    x = (image - mean) / (contrast + EPSILON_CONTRAST)
    for name, channels, (down, across), residual in TRUNK:
        y = layers.Conv2D(channels, 3, strides=(down, across), padding="same", use_bias=False, name=name)(x)
        y = layers.BatchNormalization(epsilon=EPSILON_NORM, momentum=0.98, name=f"{name}_norm")(y)
        x = ops.relu(y + x) if residual else ops.relu(y)
    grid = layers.Reshape((GRID_HEIGHT * GRID_WIDTH, CHANNELS))(x)
    average = ops.mean(grid, axis=1)
    context = layers.Dense(CONTEXT, activation="relu", name="context")(average)
    located = AddEmbedding((GRID_HEIGHT * GRID_WIDTH, CHANNELS), name="place")(grid)
    scores = layers.Dense(POSITIONS, name="attend")(located)  # N, cells, positions
    scores = ops.transpose(scores, (0, 2, 1))
    prior = layers.Dense(POSITIONS * GRID_HEIGHT * GRID_WIDTH, bias_initializer=starting_attention, name="attend_layout")(context)
    scores = scores + layers.Reshape((POSITIONS, GRID_HEIGHT * GRID_WIDTH))(prior)
    attention = ops.softmax(scores, axis=-1)
    glimpses = ops.matmul(attention, grid)  # N, positions, channels
    hidden = layers.Dense(HIDDEN, name="hidden")(glimpses)
    hidden = AddEmbedding((POSITIONS, HIDDEN), name="hidden_position")(hidden)
    hidden = ops.relu(hidden + layers.Reshape((1, HIDDEN))(layers.Dense(HIDDEN, use_bias=False, name="hidden_context")(context)))
    characters = AddEmbedding((POSITIONS, CLASSES), name="character_position")(layers.Dense(CLASSES, name="character")(hidden))
    sides = [layers.Dense(size, name=name)(context) for name, size in SIDE_HEADS.items()]
    return keras.Model(image, [characters, *sides])


def export_onnx(model, path, temperature, readable_temperature):
    """Writes the ONNX file; temperatures divide the logits of characters and of `readable`."""
    graph = Graph(model)
    op, constant, dense = graph.op, graph.constant, graph.dense

    def shaped(x, *shape):
        return op("Reshape", x, constant(shape, np.int64))

    mean = op("ReduceMean", "plate", axes=[1, 2, 3], keepdims=1)
    centred = op("Sub", "plate", mean)
    variance = op("ReduceMean", op("Mul", centred, centred), axes=[1, 2, 3], keepdims=1)
    x = op("Div", centred, op("Add", op("Sqrt", variance), constant(EPSILON_CONTRAST)))
    for name, _, strides, residual in TRUNK:
        y = graph.convolution(x, name, strides)
        x = op("Relu", op("Add", y, x) if residual else y)
    grid_t = shaped(x, 0, CHANNELS, GRID_HEIGHT * GRID_WIDTH)
    grid = op("Transpose", grid_t, perm=[0, 2, 1])
    average = op("ReduceMean", grid, axes=[1], keepdims=0)
    context = op("Relu", dense(average, "context"))
    located = op("Add", grid, constant(graph.weight("place")[0]))
    scores = op("Transpose", dense(located, "attend"), perm=[0, 2, 1])
    prior = shaped(dense(context, "attend_layout"), 0, POSITIONS, GRID_HEIGHT * GRID_WIDTH)
    attention = op("Softmax", op("Add", scores, prior), axis=2)
    hidden = op("Add", dense(op("MatMul", attention, grid), "hidden"), constant(graph.weight("hidden_position")[0]))
    hidden = op("Relu", op("Add", hidden, shaped(dense(context, "hidden_context"), 0, 1, HIDDEN)))
    logits = op("Add", dense(hidden, "character"), constant(graph.weight("character_position")[0]))
    op("Softmax", op("Mul", logits, constant(1 / temperature)), output="characters", axis=2)
    for name in ("rows", "colour", "kind"):
        op("Softmax", dense(context, name), output=name, axis=1)
    op("Sigmoid", op("Mul", dense(context, "readable"), constant(1 / readable_temperature)), output="readable")
    outputs = [("characters", ["batch", POSITIONS, CLASSES])] + [(name, ["batch", size]) for name, size in SIDE_HEADS.items()]
    graph.save(path, "plate-reader-guiji", [("plate", ["batch", 3, forms.HEIGHT, forms.WIDTH])], outputs)
