"""Measures the plate reader on labelled photos, with corners from a stand-in detector.

    python evaluate.py PHOTOS --detector clp_det.onnx --reader ../plate-reader-guiji.onnx --sheet failures.png

PHOTOS holds `labels.csv` and the pictures. The first plate of a photo is read from every detection that
overlaps its box (IoU 0.3 or more); the most confident reading counts. A plate the detector misses is a
failure. Photos whose first plate has a `?` are skipped and counted.
"""

import argparse
import heapq
import json
import os

import cv2
import numpy as np

import photos
import plate_forms as forms
import render
from clp_corners import CornerDetector, iou, session, upright


class Reader:
    """The ONNX reader on RGB crops."""

    def __init__(self, path, threads=1):
        self.session = session(path, threads)

    def __call__(self, crops):
        """Dictionary of output arrays for uint8 crops `[N, H, W, 3]`."""
        tensor = np.ascontiguousarray(np.asarray(crops).transpose(0, 3, 1, 2), np.float32) / 255
        names = [output.name for output in self.session.get_outputs()]
        return dict(zip(names, self.session.run(None, {"plate": tensor})))


def best_texts(characters, count=5):
    """The likeliest texts of a lattice `[P, C]` by product of probabilities, best first."""
    order = np.argsort(-characters, axis=1)[:, :count]
    logs = np.log(np.take_along_axis(characters, order, 1) + 1e-12)
    start = (0,) * len(order)
    heap, seen, texts = [(-logs[:, 0].sum(), start)], {start}, []
    while heap and len(texts) < count:
        cost, ranks = heapq.heappop(heap)
        text = "".join(forms.CHARSET[order[i, r]] for i, r in enumerate(ranks) if order[i, r])
        texts.append((text, float(np.exp(-cost))))
        for i, r in enumerate(ranks):
            following = ranks[:i] + (r + 1,) + ranks[i + 1:]
            if r + 1 < count and following not in seen:
                seen.add(following)
                heapq.heappush(heap, (cost + logs[i, r] - logs[i, r + 1], following))
    return texts


def calibration_error(confidences, right, bins=10):
    """Expected calibration error over equal-width bins."""
    bin_of = np.minimum((np.asarray(confidences) * bins).astype(int), bins - 1)
    right = np.asarray(right, float)
    error = 0.0
    for b in range(bins):
        inside = bin_of == b
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - np.mean(np.asarray(confidences)[inside]))
    return float(error)


def found_corners(folder, names, detector_path, cache):
    """Corners by photo, kept in a JSON file when `cache` is given."""
    if cache and os.path.exists(cache):
        with open(cache) as file:
            return {name: [np.float32(c) for c in corners] for name, corners in json.load(file).items()}
    detector = CornerDetector(detector_path)
    found = {name: [c for _, c in detector(cv2.imread(f"{folder}/{name}"))] for name in names}
    if cache:
        with open(cache, "w") as file:
            json.dump({name: [c.tolist() for c in corners] for name, corners in found.items()}, file)
    return found


def matching_corners(row, corners):
    """The detections of a photo's first plate."""
    box = [float(row[k]) for k in ("x1", "y1", "x2", "y2")]
    return [c for c in corners if iou(upright(c), box) >= 0.3]


def read_crop(reader, cut):
    """Reading of one plate: `cut(folded)` gives its crop; two-row plates are read again from the
    folded one, and the surer reading counts.

    Returns the crop the text was read from, the likeliest texts, and the outputs for the plain crop.
    """
    crop = cut(False)
    out = {name: value[0] for name, value in reader(crop[None]).items()}
    texts = best_texts(out["characters"])
    if out["rows"][1] > 0.5:
        folded = cut(True)
        again = best_texts(reader(folded[None])["characters"][0])
        if again[0][1] > texts[0][1]:
            return folded, again, out
    return crop, texts, out


def read_photo(reader, picture, corners):
    """Best reading over the detections of one plate."""
    reads = [read_crop(reader, lambda folded, c=c: render.cut(picture, c, folded)) for c in corners]
    crop, texts, out = max(reads, key=lambda read: read[1][0][1])
    return {
        "texts": texts, "crop": crop, "rows": int(out["rows"].argmax()) + 1, "colour": forms.COLOURS[out["colour"].argmax()],
        "kind": forms.KINDS[out["kind"].argmax()], "readable": float(out["readable"][0]),
    }


def figures(results):
    """Shares over a list of results."""
    share = lambda key: round(float(np.mean([r[key] for r in results])), 4)
    return {"photos": len(results)} | {key: share(key) for key in ("first_plate_exact", "province_exact", "last6_exact", "top5_recall", "rows_right", "colour_right")}


def evaluate(folder, reader, corners, rows):
    """Results by photo."""
    results = []
    for row in rows:
        truth = row["plate_text"].split(";")[0]
        matching = matching_corners(row, corners[row["id"]])
        result = {"id": row["id"], "truth": truth, "colour": row["plate_colour"], "rows": row["rows"], "found": bool(matching),
                  "text": "", "confidence": 0.0, "readable": 0.0, "crop": None, "kind": "", "top5_recall": False, "rows_right": False, "colour_right": False}
        if matching:
            picture = cv2.cvtColor(cv2.imread(f"{folder}/{row['id']}"), cv2.COLOR_BGR2RGB)
            read = read_photo(reader, picture, matching)
            result |= {"text": read["texts"][0][0], "confidence": read["texts"][0][1], "readable": read["readable"], "crop": read["crop"], "kind": read["kind"],
                       "top5_recall": truth in [t for t, _ in read["texts"]], "rows_right": str(read["rows"]) == row["rows"],
                       "colour_right": read["colour"].replace("yellow_", "") == row["plate_colour"]}
        result |= {"first_plate_exact": result["text"] == truth, "province_exact": result["text"][:1] == truth[:1], "last6_exact": result["text"][-6:] == truth[-6:]}
        results.append(result)
    return results


def contact_sheet(results, path, columns=4):
    """Crops of the failures in the order of the printed list."""
    tiles = [cv2.cvtColor(cv2.resize(r["crop"], (336, 96)), cv2.COLOR_RGB2BGR) for r in results if r["crop"] is not None]
    if not tiles:
        return
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    cv2.imwrite(path, np.vstack([np.hstack(tiles[i:i + columns]) for i in range(0, len(tiles), columns)]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photos")
    parser.add_argument("--detector", required=True)
    parser.add_argument("--reader", default="../plate-reader-guiji.onnx")
    parser.add_argument("--corners", help="JSON file that keeps the detector's corners between runs")
    parser.add_argument("--sheet", help="PNG of every failure")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()

    rows = photos.read_csv(f"{args.photos}/labels.csv")
    readable = [r for r in rows if "?" not in r["plate_text"].split(";")[0]]
    corners = found_corners(args.photos, [r["id"] for r in rows], args.detector, args.corners)
    results = evaluate(args.photos, Reader(args.reader), corners, readable)
    failures = [r for r in results if not r["first_plate_exact"]]
    report = figures(results) | {
        "skipped": len(rows) - len(readable),
        "detector_recall": round(float(np.mean([r["found"] for r in results])), 4),
        "ece": round(calibration_error([r["confidence"] for r in results if r["found"]], [r["first_plate_exact"] for r in results if r["found"]]), 4),
        "by": {f"{colour} {rows_} row": figures([r for r in results if (r["colour"], r["rows"]) == (colour, rows_)])
               for colour, rows_ in sorted({(r["colour"], r["rows"]) for r in results})},
        "failures": [{key: r[key] for key in ("id", "truth", "text", "confidence", "readable", "kind")} for r in failures],
    }
    if args.sheet:
        contact_sheet(failures, args.sheet)
    if args.json:
        print(json.dumps(report, ensure_ascii=False, indent=1))
        return
    for key, value in report.items():
        if key == "by":
            for name, values in value.items():
                print(f"  {name}: {values}")
        elif key != "failures":
            print(f"{key}: {value}")
    for r in report["failures"]:
        print(f"  {r['id']} {r['truth']} read {r['text'] or '-'} at {r['confidence']:.3f}, readable {r['readable']:.3f}, {r['kind']}")


if __name__ == "__main__":
    main()
