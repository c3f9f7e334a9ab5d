"""Renders windows of street pictures for the plate detector: plates in them, and what is easily taken for one.

Three grounds: parts of photos (see `photos.py`), with their own plates or rendered ones in their place;
patchworks of surroundings with rendered plates; and either without any plate, but with lettering as on
lorries and signs.

A window's labels are at most `PLATES_MAX` rows of x, y of the corners top left, top right, bottom right,
bottom left, in pixels of the window, and what they are: `NONE`, `CORNERS`, `BOX` (of the upright box: a
photo's own plate) or `IGNORED` (a plate that the window cuts).
"""

import multiprocessing
import os
import random

import cv2
import numpy as np

import plate_forms as forms
import render
from photos import load_photos

WIDTH, HEIGHT = 256, 192
PLATES_MAX = 4
NONE, CORNERS, BOX, IGNORED = range(4)
PLATE_WIDTHS = (17, 170)  # pixels of the window
SHOWN_MIN = 0.85  # share of a plate's box inside the window below which it is ignored


def plate_width(rng):
    """Small plates are the more frequent and the harder ones."""
    low, high = np.log(PLATE_WIDTHS)
    return float(np.exp(low + (high - low) * rng.random() ** 1.2))


def box_corners(x1, y1, x2, y2):
    return np.float32([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])


def shown(corners):
    """Share of the upright box that lies in the window."""
    (x1, y1), (x2, y2) = corners.min(0), corners.max(0)
    inside = max(0, min(x2, WIDTH) - max(x1, 0)) * max(0, min(y2, HEIGHT) - max(y1, 0))
    return inside / max((x2 - x1) * (y2 - y1), 1e-6)


def touches(corners, others, margin=4):
    low, high = corners.min(0) - margin, corners.max(0) + margin
    return any((low < other.max(0)).all() and (other.min(0) < high).all() for other in others)


def flat_plate(rng, nrng, assets, rows=None):
    """A worn plate seen straight on, perhaps in a holder, and its corners in that picture."""
    while True:
        kind, text, colour, plate_rows = forms.draw(rng)
        if rows in (None, plate_rows):
            break
    plate = render.wear(rng, nrng, render.draw_plate(rng, nrng, assets, kind, text, colour, plate_rows))
    if rng.random() < 0.4:
        return render.framed(rng, nrng, assets, plate)
    height, width = plate.shape[:2]
    return plate, box_corners(0, 0, width, height)


def lettering(rng, nrng, assets, window, taken):
    """Writes what is not a plate: a line of a lorry, a sign, a sticker or a number painted on a door."""
    for _ in range(rng.randint(1, 4)):
        mask = rng.choice(assets.captions)
        h = rng.randint(6, 40)
        w = min(WIDTH - 4, max(6, int(mask.shape[1] * h / mask.shape[0] * rng.uniform(0.7, 1.3))))
        pad_x, pad_y = rng.randint(0, 10), rng.randint(0, 8)
        x, y = rng.randint(0, WIDTH - w), rng.randint(0, max(0, HEIGHT - h))
        if touches(box_corners(x - pad_x, y - pad_y, x + w + pad_x, y + h + pad_y), taken):
            continue
        if rng.random() < 0.6:  # on a board of its own, often in a plate's colours
            paint = rng.choice([background for background, _ in render.PAINT.values()])
            board = tuple(float(v) for v in np.clip(np.array(paint) + nrng.normal(0, 35, 3), 0, 255))
            cv2.rectangle(window, (x - pad_x, y - pad_y), (x + w + pad_x, y + h + pad_y), board, -1)
        region = window[y:y + h, x:x + w]
        small = cv2.resize(mask, (w, h), interpolation=cv2.INTER_AREA)[:region.shape[0]]
        window[y:y + h, x:x + w] = render.blend(region, small, nrng.uniform(0, 255, 3))


def bars(rng, nrng, window):
    """Grilles, fences, kerbs and stairs: stripes in a rectangle."""
    w, h = rng.randint(20, 140), rng.randint(8, 60)
    x, y = rng.randint(0, WIDTH - w), rng.randint(0, HEIGHT - h)
    period, upright = rng.uniform(3, 12), rng.random() < 0.5
    phase = np.arange(w if upright else h) / period + rng.random()
    wave = np.clip(np.sin(phase * 2 * np.pi) * rng.uniform(0.8, 4), -1, 1)
    stripes = wave[None, :, None] if upright else wave[:, None, None]
    region = window[y:y + h, x:x + w].astype(np.float32)
    window[y:y + h, x:x + w] = np.clip(region + stripes * nrng.uniform(10, 110, 3), 0, 255).astype(np.uint8)


def patchwork(rng, nrng, assets):
    """A street of surroundings: panes of car and road textures, lamps, edges."""
    window = render.surroundings(rng, nrng, assets, HEIGHT, WIDTH)
    for _ in range(rng.randint(2, 9)):
        w, h = rng.randint(16, WIDTH), rng.randint(12, HEIGHT)
        x, y = rng.randint(0, WIDTH - w), rng.randint(0, HEIGHT - h)
        pane = render.surroundings(rng, nrng, assets, h, w)
        if rng.random() < 0.3:
            mask = np.zeros((h, w), np.uint8)
            cv2.ellipse(mask, (w // 2, h // 2), (w // 2, h // 2), 0, 0, 360, 255, -1)
            keep = mask[..., None] > 0
            window[y:y + h, x:x + w] = np.where(keep, pane, window[y:y + h, x:x + w])
        else:
            window[y:y + h, x:x + w] = pane
    return window


def photo_window(rng, photo, anchor):
    """Part of a photo around one of its plates, or anywhere: picture, and the photo's plates in its pixels."""
    picture, boxes = photo
    height, width = picture.shape[:2]
    if anchor and len(boxes):
        x1, y1, x2, y2 = rng.choice(boxes)
        scale = min(plate_width(rng) / (x2 - x1), 2.0)
        left = (x1 + x2) / 2 - rng.uniform(0.1, 0.9) * WIDTH / scale
        top = (y1 + y2) / 2 - rng.uniform(0.1, 0.9) * HEIGHT / scale
    else:
        scale = rng.uniform(0.25, 1.5)
        left, top = (rng.uniform(0, max(1.0, length - side / scale)) for length, side in ((width, WIDTH), (height, HEIGHT)))
    across, down = int(np.ceil(WIDTH / scale)), int(np.ceil(HEIGHT / scale))
    left, top = int(left), int(top)
    inside = picture[max(top, 0):max(top + down, 0), max(left, 0):max(left + across, 0)]
    if min(inside.shape[:2]) < 8:
        return photo_window(rng, photo, anchor)
    pads = (max(-top, 0), max(top + down - height, 0), max(-left, 0), max(left + across - width, 0))
    whole = cv2.copyMakeBorder(inside, *pads, cv2.BORDER_CONSTANT, value=(114, 114, 114))
    window = cv2.resize(whole, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    factor = np.float32([WIDTH / across, HEIGHT / down])
    return window, [(box_corners(*box) - (left, top)) * factor for box in boxes]


def over(rng, corners):
    """Corners of a plate that hides the one in the box, as a camera could see it."""
    (x1, y1), (x2, y2) = corners[0], corners[2]
    width, height = x2 - x1, y2 - y1
    wide, tall = rng.uniform(1.02, 1.2), rng.uniform(1.02, 1.25)
    guess = box_corners(x1, y1, x2, y2)
    guess = guess.mean(0) + (guess - guess.mean(0)) * (wide, tall)
    slant, lean = rng.gauss(0, 0.12) * height, rng.gauss(0, 0.12) * height
    guess += np.float32([[lean, -slant], [lean, slant], [-lean, slant], [-lean, -slant]]) / 2
    return (guess + np.float32([[rng.gauss(0, 0.03) * height for _ in range(2)] for _ in range(4)])).astype(np.float32)


def somewhere(rng, picture_corners, taken):
    """Corners of a plate anywhere in the window, clear of the others; `None` when there is no room."""
    flat = picture_corners.max(0) - picture_corners.min(0)
    seen = render.view(rng, flat[0] / flat[1], plate_width(rng), rng.random() < 0.2)
    for _ in range(8):
        at = np.float32([rng.uniform(0.08, 0.92) * WIDTH, rng.uniform(0.08, 0.92) * HEIGHT])
        if not touches(seen + at, taken):
            return (seen + at).astype(np.float32)
    return None


def window(rng, nrng, assets, photos):
    """One window and its labels `[PLATES_MAX, 9]`."""
    plates = []  # corners, what they are
    from_photo = bool(photos) and rng.random() < 0.65
    with_plates = rng.random() < 0.72
    if from_photo:
        picture, seen = photo_window(rng, rng.choice(photos), anchor=with_plates)
        if rng.random() < 0.25:  # before the plates: those stay whole
            bars(rng, nrng, picture)
        for corners in seen:
            if shown(corners) <= 0:
                continue
            if rng.random() < 0.55:
                aspect = (corners[2] - corners[0])[0] / (corners[2] - corners[0])[1]
                flat, flat_corners = flat_plate(rng, nrng, assets, rows=2 if aspect < 2.3 else 1)
                corners = over(rng, corners)
                picture = render.pasted(picture, flat, flat_corners, corners)
                plates.append((corners, CORNERS))
            else:
                plates.append((corners, BOX))
    else:
        picture = patchwork(rng, nrng, assets)
        if rng.random() < 0.4:
            bars(rng, nrng, picture)
    extra = (rng.random() < 0.35 if from_photo else rng.randint(1, 2)) if with_plates else 0
    if rng.random() < 0.5:
        lettering(rng, nrng, assets, picture, [corners for corners, _ in plates])
    for _ in range(int(extra)):
        flat, flat_corners = flat_plate(rng, nrng, assets)
        corners = somewhere(rng, flat_corners, [corners for corners, _ in plates])
        if corners is not None:
            picture = render.pasted(picture, flat, flat_corners, corners)
            plates.append((corners, CORNERS))
    if not from_photo or rng.random() < 0.5:
        smallest = min([float(np.ptp(corners[:, 0])) for corners, _ in plates], default=80.0)
        picture = render.camera(rng, nrng, picture, smallest / 8)
    labels = np.zeros((PLATES_MAX, 9), np.float32)
    for row, (corners, what) in zip(labels, plates):
        row[:8], row[8] = corners.ravel(), what if shown(corners) >= SHOWN_MIN else IGNORED
    return picture, labels


def render_shard(job):
    folder, out, count, seed, part, photo_folder, names = job
    cv2.setNumThreads(1)
    rng, nrng = random.Random(seed * 1000 + part), np.random.default_rng(seed * 1000 + part)
    assets, street = render.Assets(folder), load_photos(photo_folder, names)
    pictures = np.empty((count, HEIGHT, WIDTH, 3), np.uint8)
    labels = np.empty((count, PLATES_MAX, 9), np.float32)
    for i in range(count):
        pictures[i], labels[i] = window(rng, nrng, assets, street)
    np.savez(f"{out}/windows_{seed}_{part}.npz", pictures=pictures, labels=labels)


def render_windows(folder, out, count, seed, photo_folder, names, workers=2, per_shard=2500):
    """Renders `count` windows into shards, on the named photos among other grounds; the same seed gives the same pictures whatever the number of workers."""
    os.makedirs(out, exist_ok=True)
    jobs = [(folder, out, min(per_shard, count - start), seed, i, photo_folder, names) for i, start in enumerate(range(0, count, per_shard))]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for _ in pool.imap_unordered(render_shard, jobs, chunksize=1):
            pass
