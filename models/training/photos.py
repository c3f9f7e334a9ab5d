"""The labelled photos that may be learnt from, and their division into parts for cross-validation."""

import csv
import random

import cv2

ALLOWED = ("EasyPR", "CCPD")  # sources whose licence lets models be trained: see the cards
SIDE_MAX = 1600  # larger photos are scaled down


def read_csv(path):
    with open(path, encoding="utf-8") as file:
        return list(csv.DictReader(file))


def allowed_photos(folder):
    """Rows of `labels.csv` of the allowed sources."""
    return [row for row in read_csv(f"{folder}/labels.csv") if any(name in row["source_repo"] for name in ALLOWED)]


def folds(rows, count):
    """Part number of each photo; photos that share a plate text are in the same part."""
    owner, parent = {}, list(range(len(rows)))

    def root(i):
        while parent[i] != i:
            i = parent[i]
        return i

    for i, row in enumerate(rows):
        for text in row["plate_text"].split(";"):
            parent[root(i)] = root(owner.setdefault(text, i))
    members = [root(i) for i in range(len(rows))]
    order = sorted(set(members))
    random.Random(1).shuffle(order)
    return [order.index(member) % count for member in members]


def load_photos(folder, names):
    """`(RGB picture, plate boxes)` of the named photos."""
    boxes = {}
    for plate in read_csv(f"{folder}/boxes_all.csv"):
        boxes.setdefault(plate["id"], []).append([float(plate[k]) for k in ("x1", "y1", "x2", "y2")])
    photos = []
    for name in sorted(names):
        picture = cv2.cvtColor(cv2.imread(f"{folder}/{name}"), cv2.COLOR_BGR2RGB)
        scale = min(1.0, SIDE_MAX / max(picture.shape[:2]))
        if scale < 1:
            picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        photos.append((picture, [[v * scale for v in box] for box in boxes.get(name, [])]))
    return photos
