"""Measures the plate reader on freshly rendered plates of every kind, by kind, width and rows.

    python evaluate_rendered.py ASSETS --reader ../plate-reader-guiji.onnx --count 5000

The crops are as hard as in training: dark, hazy, blurred and compressed ones included. Reports whole
plates read, calibration, what can be kept at 99 % right, and how well unreadable crops are told apart.
"""

import argparse
import random

import cv2
import numpy as np

import evaluate
import plate_forms as forms
import render

WIDTHS = [(45, 60), (60, 80), (80, 120), (120, 240)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("assets")
    parser.add_argument("--reader", default="../plate-reader-guiji.onnx")
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=7000)
    args = parser.parse_args()

    cv2.setNumThreads(1)
    rng, nrng = random.Random(args.seed), np.random.default_rng(args.seed)
    assets, reader = render.Assets(args.assets), evaluate.Reader(args.reader)
    plates, others = [], []
    for number in range(args.count):
        kind, text, colour, rows = forms.draw(rng)
        width = WIDTHS[number % len(WIDTHS)]
        state, pixels = (rng.getstate(), nrng.bit_generator.state), rng.uniform(*width)

        def cut(folded):
            """The same plate again, cut plain or folded."""
            rng.setstate(state[0])
            nrng.bit_generator.state = state[1]
            return render.plate_crop(rng, nrng, assets, kind, text, colour, rows, pixels=pixels, folded=folded)

        _, texts, out = evaluate.read_crop(reader, cut)
        read, confidence = texts[0]
        plates.append({"kind": f"{kind}, {rows} row", "width": f"{width[0]} to {width[1]} px", "right": read == text, "province": read[:1] == text[:1],
                       "confidence": confidence, "readable": float(out["readable"][0]), "rows": out["rows"].argmax() + 1 == rows,
                       "colour": forms.COLOURS[out["colour"].argmax()] == colour})
        if number % 10 == 0:
            others.append(float(reader(render.other_crop(rng, nrng, assets)[None])["readable"][0, 0]))

    right = np.array([p["right"] for p in plates])
    confidence = np.array([p["confidence"] for p in plates])
    print(f"plates {len(plates)}, whole {right.mean():.4f}, province {np.mean([p['province'] for p in plates]):.4f}, "
          f"rows {np.mean([p['rows'] for p in plates]):.4f}, colour {np.mean([p['colour'] for p in plates]):.4f}, "
          f"ECE {evaluate.calibration_error(confidence, right):.4f}")
    order = np.argsort(-confidence)
    shares = np.cumsum(right[order]) / np.arange(1, len(right) + 1)
    kept = np.flatnonzero(shares >= 0.99)
    print(f"kept at 99 % right: {(kept[-1] + 1) / len(right) if len(kept) else 0:.4f}")
    for share in (0.9, 0.75, 0.5):
        print(f"right among the surest {share:.0%}: {shares[int(share * len(right)) - 1]:.4f}")
    print(f"readable above 0.5: plates {np.mean([p['readable'] > 0.5 for p in plates]):.4f}, crops without a plate {np.mean(np.array(others) > 0.5):.4f}")
    for key in ("width", "kind"):
        for value in sorted({p[key] for p in plates}):
            chosen = [p["right"] for p in plates if p[key] == value]
            print(f"  {value}: {np.mean(chosen):.4f} of {len(chosen)}")


if __name__ == "__main__":
    main()
