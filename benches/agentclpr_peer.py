"""The baseline of the bench `read`: PyPI's agentclpr over a folder of photos.

    python agentclpr_peer.py FOLDER

Decodes the photos once. Prints one line of JSON, {"texts": [[text, ...] for each photo by name]}, then answers every
line on standard input with the CPU seconds that reading all photos once took: user and system, all threads, the
package's settings as they are. Ends with standard input.
"""

import json
import logging
import os
import sys
import time
import types
import warnings

# Imported by the package, and used only by parts of it that are not run here: a downloader, and a module that
# Python 3.13 no longer has.
for name in ("wget", "imghdr"):
    sys.modules.setdefault(name, types.ModuleType(name))

import cv2  # noqa: E402
from agentclpr import CLPSystem  # noqa: E402


def read(system, photo):
    """Texts of the plates found. The package raises when a plate touches the picture's edge."""
    try:
        return [text for _, (text, _) in system(photo)]
    except (cv2.error, ValueError, ZeroDivisionError):
        return []


def main():
    # The package logs to standard output, which is the protocol's: move the protocol out of its way.
    protocol = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")

    folder = sys.argv[1]
    photos = [cv2.imread(os.path.join(folder, name)) for name in sorted(os.listdir(folder))]
    system = CLPSystem()
    print(json.dumps({"texts": [read(system, photo) for photo in photos]}), file=protocol)
    for _ in sys.stdin:
        begin = time.process_time()
        for photo in photos:
            read(system, photo)
        print(time.process_time() - begin, file=protocol)


if __name__ == "__main__":
    main()
