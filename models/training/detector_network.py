"""The plate detector's network: a residual trunk, and at two scales a score and four corners a cell.

Cell (x, y) of the level with stride s has its centre at ((x + 0.5) s, (y + 0.5) s), pixels of the input; a
corner lies at centre + 4 s * offset. Corners run top left, top right, bottom right, bottom left as the plate
is read.
"""

from onnx_graph import EPSILON_NORM, Graph

# name, output channels, stride, adds its input
TRUNK = [
    ("d1", 16, 2, False),
    ("d2", 24, 2, False),
    ("d3", 24, 1, True),
    ("d4", 48, 2, False),
    ("d5", 48, 1, True),
    ("d6", 48, 1, True),
]
COARSE = [("e1", 80, 2, False), ("e2", 80, 1, True), ("e3", 80, 1, True)]
FINE = ("f1", 48, 1, True)
STRIDES = (8, 16)
REACH = 4  # an offset of one is this many strides
MEAN, STD = 127.5, 127.5


def build():
    """Keras model from RGB `[N, H, W, 3]` (0 to 255 less MEAN, over STD; sides multiples of 16) to two maps
    `[N, H / s, W / s, 9]`: logit of the score, then x and y offset of each corner."""
    import keras
    from keras import layers, ops

    def block(x, name, channels, stride, residual):
        y = layers.Conv2D(channels, 3, strides=stride, padding="same", use_bias=False, name=name)(x)
        y = layers.BatchNormalization(epsilon=EPSILON_NORM, momentum=0.98, name=f"{name}_norm")(y)
        return ops.relu(y + x) if residual else ops.relu(y)

    def head(x, name):
        score = layers.Conv2D(1, 1, bias_initializer=keras.initializers.Constant(-4.0), name=f"score_{name}")(x)
        return layers.Concatenate()([score, layers.Conv2D(8, 1, name=f"corners_{name}")(x)])

    image = keras.Input((None, None, 3))
    x = image
    for layer in TRUNK:
        x = block(x, *layer)
    fine = x
    for layer in COARSE:
        x = block(x, *layer)
    lifted = layers.UpSampling2D(2)(layers.Conv2D(FINE[1], 1, name="lift")(x))
    fine = block(ops.relu(fine + lifted), *FINE)
    return keras.Model(image, [head(fine, "8"), head(x, "16")])


def export_onnx(model, path):
    """Writes the ONNX file: `image` to `scores_s` `[N, 1, H/s, W/s]`, probabilities, and `corners_s` `[N, 8, H/s, W/s]`."""
    graph = Graph(model)
    op = graph.op

    def block(x, name, _, stride, residual):
        y = graph.convolution(x, name, (stride, stride))
        return op("Relu", op("Add", y, x) if residual else y)

    def head(x, name):
        op("Sigmoid", graph.convolution(x, f"score_{name}"), output=f"scores_{name}")
        op("Identity", graph.convolution(x, f"corners_{name}"), output=f"corners_{name}")

    x = "image"
    for layer in TRUNK:
        x = block(x, *layer)
    fine = x
    for layer in COARSE:
        x = block(x, *layer)
    scales = graph.constant([1, 1, 2, 2])
    lifted = op("Resize", graph.convolution(x, "lift"), "", scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    fine = block(op("Relu", op("Add", fine, lifted)), *FINE)
    head(fine, "8")
    head(x, "16")
    outputs = [(f"{kind}_{stride}", ["batch", size, f"rows_{stride}", f"columns_{stride}"])
               for stride in STRIDES for kind, size in (("scores", 1), ("corners", 8))]
    graph.save(path, "plate-detector-guiji", [("image", ["batch", 3, "height", "width"])], outputs)
