"""Fine-tunes trained weights on crops of photos whose licence allows it, and measures that honestly.

    python finetune.py PHOTOS --corners corners.json --work FOLDER --start FOLDER/reader.weights.h5 --folds 3

Only photos from EasyPR and CCPD are learnt from. With `--folds K` they are split by plate text, so that a
plate never stands on both sides; each part is read by a model that has not seen it and the pooled figure
is printed. Then one model is tuned on all of them and exported.
"""

import argparse
import json
import os
import random

import cv2
import numpy as np

import evaluate
import network
import photos
import plate_forms as forms
import render
import train
from clp_corners import iou, upright

VARIANTS = 40  # jittered crops a plate
RENDERED = 20000  # rendered crops mixed in, so that rare kinds are not forgotten


def kind_of(text, colour, rows):
    """Plate kind of a labelled text, for the kinds these sources hold."""
    if len(text) == 8:
        return "nev_small" if text[2] in "DF" else "nev_large"
    for mark, kind in (("学", "coach"), ("警", "police"), ("挂", "trailer"), ("使", "embassy"), ("领", "consulate")):
        if mark in text:
            return kind
    return {"yellow": "large_vehicle", "white": "military", "black": "hongkong_macau"}.get(colour, "small_car")


def degraded(rng, nrng, crop):
    """Small changes of light, sharpness and compression."""
    if rng.random() < 0.3:
        factor = rng.uniform(0.4, 0.9)
        small = cv2.resize(crop, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        crop = cv2.resize(small, (forms.WIDTH, forms.HEIGHT), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.3:
        crop = cv2.GaussianBlur(crop, (0, 0), rng.uniform(0.4, 1.2))
    picture = crop.astype(np.float32) * rng.uniform(0.6, 1.3) * np.exp(nrng.normal(0, 0.08, 3)) + rng.uniform(-10, 25)
    if rng.random() < 0.3:
        picture += nrng.normal(0, rng.uniform(1, 5), crop.shape)
    crop = np.clip(picture, 0, 255).astype(np.uint8)
    return render.jpeg(crop, rng.randint(40, 95)) if rng.random() < 0.3 else crop


def pool(folder, plates, corners, seed):
    """Jittered crops and labels of labelled plates; plates the detector misses use their upright box."""
    rng, nrng = random.Random(seed), np.random.default_rng(seed)
    crops, labels = [], []
    for plate in plates:
        picture = cv2.cvtColor(cv2.imread(f"{folder}/{plate['id']}"), cv2.COLOR_BGR2RGB)
        x1, y1, x2, y2 = box = [float(plate[k]) for k in ("x1", "y1", "x2", "y2")]
        found = [c for c in corners[plate["id"]] if iou(upright(c), box) >= 0.4]
        found = found or [np.float32([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])]
        text, colour, rows = plate["plate_text"], plate["plate_colour"], int(plate["rows"])
        kind = kind_of(text, colour, rows)
        colour = "yellow_green" if kind == "nev_large" else colour
        label = [*forms.encode(text), rows - 1, forms.COLOURS.index(colour), forms.KINDS.index(kind), 1]
        for _ in range(VARIANTS):
            guess = render.estimated(rng, nrng, rng.choice(found))
            crops.append(degraded(rng, nrng, render.cut(picture, guess, folded=rows == 2)))
            labels.append(label)
    return np.array(crops), np.array(labels, np.uint8)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photos")
    parser.add_argument("--corners", required=True, help="corners kept by evaluate.py")
    parser.add_argument("--work", required=True, help="folder of train.py: shards and weights")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="rendering seeds to mix in")
    parser.add_argument("--start", required=True)
    parser.add_argument("--out", default="../plate-reader-guiji.onnx")
    parser.add_argument("--folds", type=int, default=0)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--rate", type=float, default=3e-4)
    args = parser.parse_args()

    train.set_up(1)
    rows = photos.allowed_photos(args.photos)
    plates = [p for p in photos.read_csv(f"{args.photos}/boxes_all.csv") if "?" not in p["plate_text"] and p["rows"]]
    corners = evaluate.found_corners(args.photos, [], None, args.corners)
    crops, labels = train.load(args.work, args.seeds)
    pick = np.random.default_rng(1).permutation(len(crops))[:RENDERED]
    crops, labels = crops[pick], labels[pick]
    held = train.load(args.work, [train.HELD_SEED])
    model = network.build()

    def tune(names):
        """Weights tuned on the plates of the named photos."""
        model.load_weights(args.start)
        real = pool(args.photos, [p for p in plates if p["id"] in names], corners, 1)
        train.fit(model, np.concatenate([crops, real[0]]), np.concatenate([labels, real[1]]), args.steps, 64, args.rate, 1, lambda step: None)
        return train.calibrate(train.predict(model, held[0]), held[1])

    if args.folds:
        results = []
        parts = photos.folds(rows, args.folds)
        for fold in range(args.folds):
            aside = [r for r, part in zip(rows, parts) if part == fold]
            text_temperature, readable_temperature, _ = tune({r["id"] for r in rows} - {r["id"] for r in aside})
            path = os.path.join(args.work, "fold.onnx")
            network.export_onnx(model, path, text_temperature, readable_temperature)
            aside = [r for r in aside if "?" not in r["plate_text"].split(";")[0]]
            results += evaluate.evaluate(args.photos, evaluate.Reader(path), corners, aside)
            print(f"fold {fold}:", evaluate.figures(results[-len(aside):]), flush=True)
        print("cross-validated:", json.dumps(evaluate.figures(results)))
        for r in results:
            if not r["first_plate_exact"]:
                print(f"  {r['id']} {r['truth']} read {r['text'] or '-'} at {r['confidence']:.3f}")
    text_temperature, readable_temperature, held_figures = tune({r["id"] for r in rows})
    print("held aside:", held_figures, f"temperatures {text_temperature:.3f} {readable_temperature:.3f}")
    network.export_onnx(model, args.out, text_temperature, readable_temperature)


if __name__ == "__main__":
    main()
