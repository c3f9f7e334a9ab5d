"""Another plate reader, as its package comes, on the photos that are asked for.

    python peer.py agentclpr|hyperlpr2

Reads paths of photos, one a line. Answers each with a line of JSON: {"plates": [{"text", "confidence", "box":
[x1, y1, x2, y2]}], "cpu_s"}, CPU seconds of the process, all threads, without decoding the file, the package's
settings as they are. A photo asked for again is not decoded again. Ends with standard input.
"""

import json
import logging
import os
import sys
import time
import types
import warnings

# Imported by agentclpr, and used only by parts of it that are not run here: a downloader, and a module that
# Python 3.13 no longer has.
for name in ("wget", "imghdr"):
    sys.modules.setdefault(name, types.ModuleType(name))

import cv2  # noqa: E402
import numpy as np  # noqa: E402


def agentclpr():
    from agentclpr import CLPSystem

    system = CLPSystem()

    def read(photo):
        for corners, (text, confidence) in system(photo):
            corners = np.asarray(corners, float).reshape(-1, 2)
            yield text, confidence, [*corners.min(0), *corners.max(0)]

    return read


def hyperlpr2():
    from hyperlpr2 import HyperLPR_plate_recognition

    def read(photo):
        for text, confidence, box in HyperLPR_plate_recognition(photo):
            yield text, confidence, box

    return read


def plates(read, photo):
    """What the package finds. Both raise when a plate touches the picture's edge: then it found nothing."""
    try:
        return [{"text": text, "confidence": float(confidence), "box": [float(v) for v in box]} for text, confidence, box in read(photo)]
    except (cv2.error, ValueError, ZeroDivisionError):
        return []


def main():
    # The packages log to standard output, which is the protocol's: move the protocol out of their way.
    protocol = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")

    read = {"agentclpr": agentclpr, "hyperlpr2": hyperlpr2}[sys.argv[1]]()
    photos = {}
    for line in sys.stdin:
        path = line.rstrip("\n")
        if path not in photos:
            photos[path] = cv2.imread(path)
        begin = time.process_time()
        found = plates(read, photos[path])
        print(json.dumps({"plates": found, "cpu_s": time.process_time() - begin}), file=protocol)


if __name__ == "__main__":
    main()
