"""Trains the plate detector from rendered windows and writes the ONNX file.

    python train_detector.py ASSETS --photos PHOTOS --work FOLDER --out ../plate-detector-guiji.onnx

PHOTOS holds `labels.csv`, `boxes_all.csv` and the pictures; only those of the allowed sources are learnt
from. `--aside 0/2` leaves one part of two out, to be measured on with `evaluate_detector.py`.
"""

import argparse
import glob
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

import detector_network as network
import photos
import train
import windows

SHIFT = 8  # random shift of a window, pixels
FINE_MAX, COARSE_MIN = 76, 50  # plate widths that the two levels learn, pixels: both learn those between
CORNER_WEIGHT = 4.0
CORNER_SCALE = 0.1  # of the plate's height: beyond it the corner loss grows linearly


def load(folder, seed):
    """Pictures and labels of a seed's shards."""
    shards = [np.load(path) for path in sorted(glob.glob(f"{folder}/windows_{seed}_*.npz"))]
    count = sum(len(shard["labels"]) for shard in shards)
    pictures = np.empty((count, windows.HEIGHT, windows.WIDTH, 3), np.uint8)
    labels, at = [], 0
    for shard in shards:
        labels.append(shard["labels"])
        pictures[at:at + len(labels[-1])] = shard["pictures"]
        at += len(labels[-1])
    return pictures, np.concatenate(labels)


def targets(labels, stride):
    """What a level should say of each cell: score 0 to 1 (1 marks the cells that answer for a plate), weight
    of the score, corners `[8]` and kind of label. Near a plate's centre, but not on it, a high score costs less."""
    rows, columns = windows.HEIGHT // stride, windows.WIDTH // stride
    count = len(labels)
    score = np.zeros((count, rows, columns), np.float32)
    weight = np.ones((count, rows, columns), np.float32)
    corners = np.zeros((count, rows, columns, 8), np.float32)
    what = np.zeros((count, rows, columns), np.float32)
    xs, ys = (np.arange(columns) + 0.5) * stride, (np.arange(rows) + 0.5) * stride
    for i, plates in enumerate(labels):
        for plate in plates[plates[:, 8] > 0]:
            quad = plate[:8].reshape(4, 2)
            (x1, y1), (x2, y2) = quad.min(0), quad.max(0)
            inside = ((ys >= y1) & (ys <= y2))[:, None] & ((xs >= x1) & (xs <= x2))[None]
            mine = x2 - x1 < FINE_MAX if stride == network.STRIDES[0] else x2 - x1 > COARSE_MIN
            if plate[8] == windows.IGNORED or not mine:
                weight[i][inside] = 0
                continue
            cx, cy = quad.mean(0)
            dx, dy = (xs - cx)[None] / max((x2 - x1) * 0.25, stride), (ys - cy)[:, None] / max((y2 - y1) * 0.35, stride)
            near = np.exp(-0.5 * (dx * dx + dy * dy) * 4)
            hit = (np.abs(xs - cx) <= 0.75 * stride)[None] & (np.abs(ys - cy) <= 0.75 * stride)[:, None]
            score[i] = np.maximum(score[i], np.where(hit, 1.0, np.minimum(near, 0.95)))
            corners[i][hit], what[i][hit] = plate[:8], plate[8]
    return score, weight, corners, what


def batches(pictures, labels, size, seed):
    """Endless shuffled batches of shifted windows with the targets of every level."""
    rng = np.random.default_rng(seed)
    for pick in train.picks(rng, len(pictures), size):
        batch, moved = pictures[pick], labels[pick].copy()
        for i in range(size):
            dx, dy = rng.integers(-SHIFT, SHIFT + 1, 2)
            batch[i] = np.roll(batch[i], (dy, dx), (0, 1))  # what leaves on one side comes in on the other: harmless
            moved[i, :, 0:8:2] += dx
            moved[i, :, 1:8:2] += dy
        yield batch, [target for stride in network.STRIDES for target in targets(moved, stride)]


def level_loss(maps, stride, score, weight, corners, what):
    """Score loss (CenterNet's focal loss, Zhou et al. 2019) and corner loss, summed over a level."""
    logit, offsets = maps[..., 0], maps[..., 1:]
    positive = tf.cast(score >= 1.0, tf.float32)
    p = tf.clip_by_value(tf.sigmoid(logit), 1e-5, 1 - 1e-5)
    hit = -tf.math.log(p) * (1 - p) ** 2 * positive
    miss = -tf.math.log(1 - p) * p ** 2 * (1 - score) ** 4 * (1 - positive)
    rows, columns = score.shape[1:3]
    xs = (tf.range(columns, dtype=tf.float32) + 0.5) * stride
    ys = (tf.range(rows, dtype=tf.float32) + 0.5) * stride
    centres = tf.tile(tf.stack(tf.meshgrid(xs, ys), -1), (1, 1, 4))
    at = centres + offsets * float(stride * network.REACH)

    def sides(c):
        x, y = c[..., 0::2], c[..., 1::2]
        return tf.stack([tf.minimum(x[..., 0], x[..., 3]), tf.minimum(y[..., 0], y[..., 1]),
                         tf.maximum(x[..., 1], x[..., 2]), tf.maximum(y[..., 2], y[..., 3])], -1)

    y = corners[..., 1::2]
    height = tf.maximum((y[..., 2] + y[..., 3] - y[..., 0] - y[..., 1]) / 2, 4.0)[..., None]

    def smooth(error):
        error = tf.abs(error) / height
        return tf.reduce_mean(tf.where(error < CORNER_SCALE, error * error / (2 * CORNER_SCALE), error - CORNER_SCALE / 2), -1)

    exact = smooth(at - corners) * tf.cast(what == windows.CORNERS, tf.float32)
    box = smooth(sides(at) - sides(corners)) * tf.cast(what == windows.BOX, tf.float32)
    return tf.reduce_sum((hit + miss) * weight), tf.reduce_sum((exact + box) * positive), tf.reduce_sum(positive)


def losses(outputs, target):
    """Loss of a batch, and its parts: score and corners, each a plate cell."""
    parts = [level_loss(maps, stride, *target[4 * k:4 * k + 4]) for k, (maps, stride) in enumerate(zip(outputs, network.STRIDES))]
    score, corner, count = (tf.add_n(list(part)) for part in zip(*parts))
    count = tf.maximum(count, 1.0)
    return score / count + CORNER_WEIGHT * corner / count, score / count, corner / count


def fit(model, pictures, labels, steps, size, rate, seed, checkpoint):
    """One cosine run with a short warm-up; `checkpoint(step)` is called now and then."""
    adam = train.optimizer(model, steps, rate)

    @tf.function(jit_compile=False)
    def step(images, target):
        x = tf.cast(images, tf.float32) / 255.0
        gain = tf.exp(tf.random.normal([tf.shape(x)[0], 1, 1, 3], 0.0, 0.08))
        gamma = tf.exp(tf.random.normal([tf.shape(x)[0], 1, 1, 1], 0.0, 0.25))
        x = (tf.minimum(tf.pow(x, gamma) * gain, 1.0) * 255.0 - network.MEAN) / network.STD
        with tf.GradientTape() as tape:
            total, score, corner = losses(model(x, training=True), target)
        adam.apply(tape.gradient(total, model.trainable_variables), model.trainable_variables)
        return score, corner

    start, recent = time.time(), []
    for number, (images, target) in enumerate(batches(pictures, labels, size, seed), 1):
        recent.append([float(part) for part in step(images, [tf.constant(t) for t in target])])
        if number % 100 == 0:
            score, corner = np.mean(recent, 0)
            print(f"step {number} score loss {score:.3f} corner loss {corner:.4f} {number * size / (time.time() - start):.0f} samples/s", flush=True)
            recent = []
        if number % 1000 == 0 or number >= steps:
            checkpoint(number)
        if number >= steps:
            return


def arguments(description, out, steps, batch, rate):
    """Arguments of a training from rendered windows, with its defaults."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("assets", help="folder with font_model, plate_model and behind")
    parser.add_argument("--photos", required=True)
    parser.add_argument("--work", required=True, help="folder for rendered windows and checkpoints")
    parser.add_argument("--out", default=out)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=40000, help="windows")
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--rate", type=float, default=rate)
    return parser


def main():
    parser = arguments(__doc__.split("\n")[0], "../plate-detector-guiji.onnx", steps=5500, batch=24, rate=3e-3)
    parser.add_argument("--aside", help="part to leave out: K/N")
    args = parser.parse_args()

    train.set_up(args.seed)
    rows = photos.allowed_photos(args.photos)
    if args.aside:
        part, count = (int(v) for v in args.aside.split("/"))
        rows = [row for row, fold in zip(rows, photos.folds(rows, count)) if fold != part]
    if not glob.glob(f"{args.work}/windows_{args.seed}_*.npz"):
        windows.render_windows(args.assets, args.work, args.count, args.seed, args.photos, [row["id"] for row in rows])
    pictures, labels = load(args.work, args.seed)
    model = network.build()
    print(f"{model.count_params()} parameters, {len(pictures)} windows, {len(rows)} photos", flush=True)

    def checkpoint(step):
        model.save_weights(f"{args.work}/detector.weights.h5")
        network.export_onnx(model, args.out)

    fit(model, pictures, labels, args.steps, args.batch, args.rate, args.seed, checkpoint)


if __name__ == "__main__":
    main()
