"""Renders plates as the reader sees them: warped from estimated corners, with the marks of the road.

    python render.py ASSETS OUT --count 100000 --seed 1

ASSETS holds `font_model/`, `plate_model/` and `behind/` (see the card for origin and licence). Writes
`OUT/shard_<seed>_<part>.npz` with uint8 crops and their labels. A plate is drawn flat in millimetres,
worn (screws, dirt, faded paint, shadow), photographed (perspective, blur, light, noise, compression)
and cut out by corners that are a little wrong.
"""

import argparse
import math
import multiprocessing
import os
import random

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

import plate_forms as forms

SCALE = 0.75  # canvas pixels a millimetre

CJK_FONTS = ["NotoSansCJK-Bold.ttc", "NotoSansCJK-Black.ttc", "NotoSansCJK-Medium.ttc", "NotoSansCJK-Regular.ttc",
             "wqy-zenhei.ttc", "wqy-microhei.ttc", "DroidSansFallbackFull.ttf"]
LATIN_FONTS = ["DejaVuSans-Bold.ttf", "DejaVuSansCondensed-Bold.ttf", "DejaVuSansMono-Bold.ttf", "NimbusSansNarrow-Bold.otf",
               "NimbusSans-Bold.otf", "OpenSans-CondBold.ttf", "OpenSans-Bold.ttf", "RobotoCondensed-Bold.ttf",
               "RobotoCondensed-Medium.ttf", "Roboto-Bold.ttf", "OSP-DIN.ttf", "NotoSansMono-Bold.ttf", "NotoSansCJK-Bold.ttc"]
FONT_FOLDERS = ["/usr/share/fonts", "/usr/local/share/fonts"]

PAINT = {  # background and characters, RGB
    "blue": ((20, 60, 170), (245, 245, 250)), "yellow": ((235, 175, 20), (20, 20, 20)),
    "green": ((120, 220, 150), (15, 20, 15)), "yellow_green": ((60, 200, 110), (15, 20, 15)),
    "white": ((235, 235, 235), (20, 20, 20)), "black": ((18, 18, 20), (240, 240, 240)),
}
YELLOWS = [(235, 175, 20), (235, 175, 20), (190, 135, 20), (250, 215, 150), (165, 150, 105), (250, 230, 40)]  # also faded and dim
RED = (200, 25, 30)


def read_picture(path, flag=cv2.IMREAD_COLOR):
    picture = cv2.imdecode(np.fromfile(path, np.uint8), flag)
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB) if flag == cv2.IMREAD_COLOR else picture


def find_font(name):
    for folder in FONT_FOLDERS:
        for where, _, files in os.walk(folder):
            if name in files:
                return os.path.join(where, name)
    raise FileNotFoundError(f"font {name}: install the packages named on the card")


def font_mask(font, text):
    """Tight coverage mask of a text."""
    x1, y1, x2, y2 = font.getbbox(text)
    picture = Image.new("L", (x2 - x1, y2 - y1))
    ImageDraw.Draw(picture).text((-x1, -y1), text, 255, font=font)
    return np.array(picture)


def caption(rng, cjk, latin):
    """Coverage mask of dealer text, a brand or a telephone number as on frames and lorries."""
    pick = rng.random()
    if pick < 0.4:
        text = "".join(rng.choice("ABCDEFGHIKLMNOPRSTUVWY") for _ in range(rng.randint(3, 9)))
    elif pick < 0.65:
        text = "".join(rng.choice("0123456789-") for _ in range(rng.randint(6, 11)))
    else:
        text = "".join(rng.choice("一路平安汽车销售服务中心大众丰田本田福特出入平安限载公司运输专用") for _ in range(rng.randint(3, 8)))
        latin = []
    return font_mask(rng.choice(cjk + latin), text)


class Assets:
    """Glyph masks, blank plates and surroundings, loaded once a process."""

    def __init__(self, folder):
        self.glyphs = {}
        for file in sorted(os.listdir(f"{folder}/font_model")):
            mask = 255 - read_picture(f"{folder}/font_model/{file}", cv2.IMREAD_GRAYSCALE)
            self.glyphs[file[:-4]] = cv2.resize(mask, (60, 120), interpolation=cv2.INTER_AREA)
        self.blanks = {}
        for file in sorted(os.listdir(f"{folder}/plate_model")):
            blank = read_picture(f"{folder}/plate_model/{file}")
            size = (int((480 if "green" in file else 440) * SCALE), int((220 if "220" in file else 140) * SCALE))
            self.blanks[file[:-4]] = cv2.resize(blank, size, interpolation=cv2.INTER_AREA)
        self.behind = [read_picture(f"{folder}/behind/{file}") for file in sorted(os.listdir(f"{folder}/behind"))]
        cjk = [ImageFont.truetype(find_font(name), 120) for name in CJK_FONTS]
        latin = [ImageFont.truetype(find_font(name), 120) for name in LATIN_FONTS]
        self.cjk = [{c: font_mask(font, c) for c in forms.PROVINCES + forms.MARKS} for font in cjk]
        self.latin = [{c: font_mask(font, c) for c in forms.DIGITS + forms.LETTERS} for font in latin]
        small = [[ImageFont.truetype(find_font(name), 48) for name in names] for names in (CJK_FONTS, LATIN_FONTS)]
        rng = random.Random(0)
        self.captions = [caption(rng, *small) for _ in range(400)]

    def real_glyph(self, char, series):
        """A glyph of the standard typeface; series is 140, 220_up, 220_down or green."""
        char = "0" if char == "O" else char
        for name in (f"{series}_{char}", f"{series.split('_')[0]}_{char}", f"140_{char}"):
            if name in self.glyphs:
                return self.glyphs[name]
        return self.cjk[0][char]


# ---- flat plates -------------------------------------------------------------------------------

def one_row(xs, width=45, y=25, height=90):
    return [(x, y, width, height) for x in xs]


def two_rows(rng, top_xs, top_width, tall_top=False, bottom=5, plate_width=440):
    """Cells of a two-row plate; heights and gaps vary as lorries, motorcycles (tall top row) and tractors do."""
    top_height = rng.uniform(58, 84) if tall_top else rng.uniform(48, 68)
    top_y = rng.uniform(10, 20)
    bottom_y = top_y + top_height + rng.uniform(6, 20)
    bottom_height = min(rng.uniform(95, 122), 210 - bottom_y)
    width = rng.uniform(56, 74)
    gap = rng.uniform(6, min(20, (425 - bottom * width) / (bottom - 1)))
    start = (plate_width - bottom * width - (bottom - 1) * gap) / 2
    top = [(x, top_y, top_width, top_height) for x in top_xs]
    return top + [(start + k * (width + gap), bottom_y, width, bottom_height) for k in range(bottom)]


def layout(rng, kind, text, rows):
    """Plate size in millimetres, character cells, middle of the dot (or None)."""
    if rows == 2:
        if kind == "agricultural":
            return 440, 220, two_rows(rng, (85 + rng.uniform(-20, 25), 220 + rng.uniform(-10, 25), 290 + rng.uniform(0, 25)), rng.uniform(40, 64)), None
        if kind == "armed_police":
            if len(text) == 8:
                return 440, 220, two_rows(rng, (85 + rng.uniform(0, 25), 140 + rng.uniform(0, 20), 270), 55), (235, 45)
            return 440, 220, two_rows(rng, (130, 240), 65), None
        spread, width = rng.uniform(-25, 20), rng.uniform(66, 84)
        return 440, 220, two_rows(rng, (150 - spread - width / 2, 290 + spread - width / 2), width, kind == "motorcycle"), (220, 45)
    if kind in ("nev_small", "nev_large", "emergency"):
        return 480, 140, [(15.5, 25, 45, 90), (69.5, 25, 43, 90), *one_row([161.5 + 52 * k for k in range(6)], 43)], (137, 70)
    if kind == "armed_police":
        if len(text) == 8:
            cells = [(12, 25, 38, 90), (53, 25, 38, 90), (108, rng.choice([25, 40]), 42, rng.choice([60, 75])), *one_row([160 + 54 * k for k in range(5)])]
            return 440, 140, cells, (99, 70)
        return 440, 140, one_row([15.5, 72.5] + [151.5 + 57 * k for k in range(5)]), (134, 70)
    if kind == "police":
        return 440, 140, one_row([15.5] + [94.5 + 57 * k for k in range(6)]), (77, 70)
    if kind == "embassy":
        first = 4 if text[0] == "使" else 3
        return 440, 140, one_row([15.5 + 57 * k for k in range(first)] + [15.5 + 57 * k + 22 for k in range(first, 7)]), (15.5 + 57 * first + 5, 70)
    return 440, 140, one_row([15.5, 72.5] + [151.5 + 57 * k for k in range(5)]), (134, 70)


def drawn_blank(rng, nrng, kind, colour, width, height):
    """A blank plate drawn from scratch, in canvas pixels."""
    background, ink = PAINT[colour]
    if kind in ("agricultural", "civil_aviation") and colour == "green":
        background, ink = (15, 95, 60), (240, 240, 240)
    if colour == "yellow":
        background = rng.choice(YELLOWS)
    background = np.clip(np.array(background) + nrng.normal(0, 22, 3), 0, 255)
    blank = np.empty((height, width, 3), np.float32)
    blank[:] = background
    if kind == "nev_small":
        top = np.array([215, 245, 225]) + nrng.normal(0, 15, 3)
        bottom = np.array([60, 205, 120]) + nrng.normal(0, 25, 3)
        ramp = np.linspace(0, 1, height)[:, None, None] ** rng.uniform(0.6, 1.8)
        blank[:] = top * (1 - ramp) + bottom * ramp
    elif kind == "nev_large":
        blank[:] = np.array(rng.choice([(60, 200, 110), (10, 160, 130), (110, 200, 90)])) + nrng.normal(0, 20, 3)
        blank[:, : int(width * rng.uniform(0.24, 0.28))] = np.array(rng.choice([(240, 190, 30), (200, 160, 70)])) + nrng.normal(0, 15, 3)
    blank = np.clip(blank, 0, 255).astype(np.uint8)
    if rng.random() < 0.85:
        inset, thick = rng.randint(1, 5), rng.randint(1, 3)
        cv2.rectangle(blank, (inset, inset), (width - 1 - inset, height - 1 - inset), ink, thick, cv2.LINE_AA)
    return blank, ink


ASSET_BLANKS = {"blue": "blue_140", "yellow": "yellow_140", "green": "green_car_140", "yellow_green": "green_truck_140", "white": "white_140", "black": "black_140"}


def blank_plate(rng, nrng, assets, kind, colour, rows, width, height):
    """Background of the plate and colour of its characters."""
    name = None
    if rows == 1 and kind not in ("embassy", "police", "armed_police", "military", "civil_aviation"):
        name = ASSET_BLANKS[colour]
    elif kind == "police":
        name = "white_140"
    elif kind in ("military", "armed_police") and rows == 1:
        name = "white_army_140"
    elif kind == "embassy":
        name = "black_shi_140"
    elif colour == "yellow":
        name = "yellow_220"
    elif colour == "white":
        name = "white_220"
    if name is None or rng.random() < 0.6:
        return drawn_blank(rng, nrng, kind, colour, width, height)
    blank = assets.blanks[name]
    return (blank.copy() if blank.shape[:2] == (height, width) else cv2.resize(blank, (width, height))), PAINT[colour][1]


def red_positions(rng, kind, text):
    if kind in ("police", "embassy", "consulate", "emergency"):
        return [i for i, c in enumerate(text) if c in "警使领应急"]
    if kind == "armed_police":
        return [i for i, c in enumerate(text) if c in "WJ" or c in forms.PROVINCES] + ([len(text) - 1] if rng.random() < 0.3 else [])
    if kind == "military":
        return [0, 1] if rng.random() < 0.6 else [0]
    return []


def draw_plate(rng, nrng, assets, kind, text, colour, rows):
    """A new plate seen straight on, RGB."""
    mm_width, mm_height, cells, dot = layout(rng, kind, text, rows)
    width, height = int(mm_width * SCALE), int(mm_height * SCALE)
    plate, ink = blank_plate(rng, nrng, assets, kind, colour, rows, width, height)
    free = rng.random() < 0.28
    cjk, latin = rng.choice(assets.cjk[:4] if rng.random() < 0.7 else assets.cjk), rng.choice(assets.latin)
    keep_shape = rng.uniform(0, 1) if free else 0.0
    shift_x, shift_y = rng.gauss(0, 2.5), rng.gauss(0, 2.0)
    stretch = rng.uniform(0.93, 1.05) if free else rng.uniform(0.98, 1.02)
    faint_first = rng.uniform(0.35, 0.9) if rng.random() < 0.2 else 1.0
    red = red_positions(rng, kind, text)
    ink_mask = np.zeros((height, width), np.uint8)
    red_mask = np.zeros((height, width), np.uint8)
    for i, (char, (x, y, w, h)) in enumerate(zip(text, cells)):
        if free:
            glyph = (latin if char in latin else cjk)[char]
            natural = h * glyph.shape[1] / glyph.shape[0]
            natural = min(natural, w * 1.15)
            fitted = w + (natural - w) * keep_shape
            if char == "1":
                fitted = min(fitted, w * rng.uniform(0.3, 0.6))
            x, w = x + (w - fitted) / 2, fitted
        else:
            series = "green" if kind.startswith("nev") else "140" if rows == 1 else "220_up" if y < 40 else "220_down"
            glyph = assets.real_glyph(char, series)
        x = mm_width / 2 + (x - mm_width / 2) * stretch + shift_x
        y = y + shift_y + rng.gauss(0, 0.7)
        left, top = round(x * SCALE), round(y * SCALE)
        size = (max(3, round(w * stretch * SCALE)), max(3, round(h * SCALE)))
        left, top = min(max(left, 0), width - size[0]), min(max(top, 0), height - size[1])
        mask = cv2.resize(glyph, size, interpolation=cv2.INTER_AREA)
        strength = faint_first if i == 0 else 1.0
        if rng.random() < 0.03:
            strength *= rng.uniform(0.35, 0.9)
        if strength < 1.0:
            mask = cv2.convertScaleAbs(mask, alpha=strength)
        region = (red_mask if i in red else ink_mask)[top:top + size[1], left:left + size[0]]
        np.maximum(region, mask, out=region)
    if dot and rng.random() < 0.8:
        radius = rng.uniform(4, 8) * SCALE
        cv2.circle(ink_mask, (round((dot[0] + shift_x) * SCALE), round((dot[1] + shift_y) * SCALE)), round(radius), 255, -1, cv2.LINE_AA)
    if rng.random() < 0.35:  # thicker or thinner strokes
        kernel = np.ones((2, 2) if rng.random() < 0.6 else (3, 3), np.uint8)
        change = cv2.dilate if rng.random() < 0.5 else cv2.erode
        ink_mask = change(ink_mask, kernel)
    ink = np.clip(np.array(ink) + nrng.normal(0, 12, 3), 0, 255)
    plate = blend(plate, ink_mask, ink)
    if red:
        plate = blend(plate, red_mask, np.clip(np.array(RED) + nrng.normal(0, 20, 3), 0, 255))
    if rng.random() < 0.4:  # embossed edges
        both = np.maximum(ink_mask, red_mask).astype(np.int16)
        dx, dy = rng.choice([(1, 1), (-1, 1), (0, 1), (0, -1)])
        relief = (both - np.roll(both, (dy, dx), (0, 1))) * rng.uniform(0.05, 0.35)
        plate = np.clip(plate + relief[..., None], 0, 255).astype(np.uint8)
    return plate


def blend(picture, mask, colour):
    """Paints a colour through a mask."""
    alpha = (mask.astype(np.float32) / 255)[..., None]
    return (picture + (np.asarray(colour, np.float32) - picture) * alpha).astype(np.uint8)


# ---- wear --------------------------------------------------------------------------------------

def smooth_noise(nrng, height, width, cells):
    """Soft random field between 0 and 1."""
    coarse = nrng.random((max(2, cells // 2), max(2, cells)), np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1)


def wear(rng, nrng, plate):
    """Screws, dirt, fading, shadows and reflections on the plate itself."""
    height, width = plate.shape[:2]
    if rng.random() < 0.75:  # screws and their holes
        xs = [rng.uniform(0.2, 0.3), rng.uniform(0.68, 0.78)] if rng.random() < 0.8 else [rng.uniform(0.02, 0.08), rng.uniform(0.92, 0.98)]
        tone = np.full(3, rng.choice([rng.uniform(10, 90), rng.uniform(150, 255)])) + nrng.normal(0, 10, 3)
        for x in xs:
            for y in rng.choice([(0.07,), (0.93,), (0.07, 0.93), (0.07, 0.93)]):
                centre = (round((x + rng.gauss(0, 0.01)) * width), round((y + rng.gauss(0, 0.02)) * height))
                radius = round(rng.uniform(2, 8) * SCALE * 1.3)
                cv2.circle(plate, centre, radius, tuple(float(v) for v in np.clip(tone, 0, 255)), -1, cv2.LINE_AA)
                if rng.random() < 0.5:
                    cv2.circle(plate, (centre[0] + 1, centre[1] + 1), max(1, radius // 2), tuple(float(v) for v in np.clip(tone - 60, 0, 255)), -1, cv2.LINE_AA)
    picture = plate.astype(np.float32)
    if rng.random() < 0.3:  # dust over everything
        dust = np.array(rng.choice([(120, 105, 85), (90, 85, 80), (60, 50, 40), (170, 165, 155)]), np.float32)
        amount = smooth_noise(nrng, height, width, rng.randint(3, 24)) ** rng.uniform(1, 3) * rng.uniform(0.15, 0.65)
        picture += (dust - picture) * amount[..., None]
    if rng.random() < 0.35:  # shadow with an edge, or light falling off
        x = np.linspace(0, 1, width, dtype=np.float32)[None, :]
        y = np.linspace(0, 1, height, dtype=np.float32)[:, None]
        angle = rng.uniform(0, 2 * math.pi)
        ramp = math.cos(angle) * (x - rng.uniform(0.2, 0.8)) + math.sin(angle) * (y - rng.uniform(0.2, 0.8)) * 0.4
        edge = 1 / (1 + np.exp(-ramp * rng.uniform(4, 80)))
        picture *= 1 - rng.uniform(0.2, 0.65) * edge[..., None]
    if rng.random() < 0.15:  # reflections and headlamp bloom
        spot = np.zeros((height, width), np.float32)
        cv2.circle(spot, (rng.randrange(width), rng.randrange(height)), rng.randint(8, height), 1.0, -1)
        spot = cv2.GaussianBlur(spot, (0, 0), rng.uniform(6, 30))
        picture += spot[..., None] * rng.uniform(30, 150)
    if rng.random() < 0.05:  # scratches and twigs
        for _ in range(rng.randint(1, 3)):
            a = (rng.randrange(width), rng.randrange(height))
            b = (a[0] + rng.randint(-120, 120), a[1] + rng.randint(-50, 50))
            tone = rng.uniform(0, 255)
            cv2.line(picture, a, b, (tone, tone, tone), rng.randint(1, 4), cv2.LINE_AA)
    return np.clip(picture, 0, 255).astype(np.uint8)


# ---- photograph --------------------------------------------------------------------------------

def surroundings(rng, nrng, assets, height, width):
    """What lies around the plate in the photo."""
    if rng.random() < 0.55:
        behind = rng.choice(assets.behind)
        h, w = behind.shape[:2]
        size = rng.uniform(0.3, 1.0)
        ch, cw = max(8, int(h * size)), max(8, int(w * size))
        y, x = rng.randint(0, h - ch), rng.randint(0, w - cw)
        return cv2.resize(behind[y:y + ch, x:x + cw], (width, height), interpolation=cv2.INTER_LINEAR)
    tone = np.full(3, rng.choice([rng.uniform(5, 60), rng.uniform(60, 180), rng.uniform(180, 250)])) + nrng.normal(0, 15, 3)
    ground = np.empty((height, width, 3), np.float32)
    ground[:] = tone
    ground += (smooth_noise(nrng, height, width, rng.randint(2, 12)) - 0.5)[..., None] * rng.uniform(0, 120)
    return np.clip(ground, 0, 255).astype(np.uint8)


def framed(rng, nrng, assets, plate):
    """Adds a holder around the plate, with text under or over it; returns picture and the plate's corners in it."""
    height, width = plate.shape[:2]
    sides, top, bottom = (rng.randint(0, 14) for _ in range(3))
    if rng.random() < 0.5:
        bottom = rng.randint(10, 26)
    tone = np.full(3, rng.choice([rng.uniform(5, 50), rng.uniform(130, 240)])) + nrng.normal(0, 8, 3)
    tone = tuple(float(v) for v in np.clip(tone, 0, 255))
    picture = cv2.copyMakeBorder(plate, top, bottom, sides, sides, cv2.BORDER_CONSTANT, value=tone)
    if bottom >= 10 and rng.random() < 0.8:
        mask = rng.choice(assets.captions)
        h = rng.randint(8, bottom)
        w = min(width, int(mask.shape[1] * h / mask.shape[0] * rng.uniform(0.8, 1.6)))
        x = sides + rng.randint(0, width - w)
        y = top + height + rng.randint(0, bottom - h)
        ink = 255 - tone[0] if rng.random() < 0.7 else rng.uniform(0, 255)
        picture[y:y + h, x:x + w] = blend(picture[y:y + h, x:x + w], cv2.resize(mask, (w, h), interpolation=cv2.INTER_AREA), (ink, ink, ink))
    overlap = rng.choice([0, 0, 2, 4])  # the holder hides the edge of the plate
    if overlap:
        cv2.rectangle(picture, (sides, top), (sides + width - 1, top + height - 1), tone, overlap)
    corners = np.float32([[sides, top], [sides + width, top], [sides + width, top + height], [sides, top + height]])
    return picture, corners


def view(rng, aspect, pixel_width, steep):
    """The plate's corners in the photo, centred on zero: a rotated rectangle through a pinhole."""
    spread = 1.6 if steep else 1.0
    yaw = math.radians(max(-62, min(62, rng.gauss(0, 20) * spread)))
    pitch = math.radians(max(-45, min(45, rng.gauss(0, 12) * spread)))
    roll = math.radians(rng.gauss(0, 5) * spread)
    distance = rng.uniform(3, 14)
    points = []
    for x, y in ((-0.5, -0.5 / aspect), (0.5, -0.5 / aspect), (0.5, 0.5 / aspect), (-0.5, 0.5 / aspect)):
        x, z = x * math.cos(yaw), x * math.sin(yaw)
        y, z = y * math.cos(pitch) - z * math.sin(pitch), y * math.sin(pitch) + z * math.cos(pitch)
        x, y = x * math.cos(roll) - y * math.sin(roll), x * math.sin(roll) + y * math.cos(roll)
        depth = 1 + z / distance
        points.append((x / depth, y / depth))
    points = np.float32(points)
    return points * pixel_width / (points[:, 0].max() - points[:, 0].min())


def motion_kernel(length, angle):
    size = int(length) | 1
    kernel = np.zeros((size, size), np.float32)
    c = size // 2
    dx, dy = math.cos(angle) * length / 2, math.sin(angle) * length / 2
    cv2.line(kernel, (round(c - dx), round(c - dy)), (round(c + dx), round(c + dy)), 1.0, 1, cv2.LINE_AA)
    return kernel / max(kernel.sum(), 1e-6)


def camera(rng, nrng, photo, char_width):
    """Blur, light, noise, sharpening and compression of a photo; char_width is a character's width in pixels."""
    if rng.random() < 0.55:
        photo = cv2.GaussianBlur(photo, (0, 0), max(0.3, min(2.5, rng.uniform(0.03, 0.12) * char_width)))
    if rng.random() < 0.25:
        photo = cv2.filter2D(photo, -1, motion_kernel(max(2.0, rng.uniform(0.1, 0.38) * char_width), rng.gauss(0, 0.5) if rng.random() < 0.7 else rng.uniform(0, math.pi)))
    picture = photo.astype(np.float32)
    if rng.random() < 0.55:  # washed out or strong colour, as cheap sensors and haze give
        grey = picture.mean(2, keepdims=True)
        picture = grey + (picture - grey) * (rng.uniform(0.0, 0.6) if rng.random() < 0.5 else rng.uniform(0.6, 1.5))
    picture *= np.exp(nrng.normal(0, 0.10, 3)).astype(np.float32)  # white balance
    light = rng.random()
    if light < 0.20:  # night: dim
        picture *= rng.uniform(0.08, 0.2) if rng.random() < 0.25 else rng.uniform(0.2, 0.6)
        picture += rng.uniform(0, 18)
    elif light < 0.36:  # over-exposed
        picture = picture * rng.uniform(1.1, 1.8) + rng.uniform(0, 40)
    elif light < 0.54:  # haze: low contrast
        picture = picture * rng.uniform(0.25, 0.7) + rng.uniform(15, 110)
    else:
        picture = 255 * (np.clip(picture, 0, 255) / 255) ** rng.uniform(0.6, 1.7) * rng.uniform(0.7, 1.15)
    if rng.random() < 0.06:
        picture += np.array(rng.choice([(60, 30, 0), (70, 0, 20), (0, 40, 60), (0, 50, 0)]), np.float32) * rng.uniform(0.3, 0.8)
    if rng.random() < 0.6:
        contrast = max(4.0, float(picture.std()))
        strength = min(rng.expovariate(1 / 4.0) + 1, contrast * 0.22)
        noise = nrng.standard_normal(picture.shape[:2] + (3 if rng.random() < 0.5 else 1,), np.float32) * strength
        if rng.random() < 0.4:
            noise = cv2.GaussianBlur(noise, (0, 0), 0.8).reshape(noise.shape) * 2
        picture += noise
    if rng.random() < 0.35:  # sharpening halos of the camera
        soft = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.8, 1.8))
        picture += (picture - soft) * rng.uniform(0.5, 2.5)
    photo = np.clip(picture, 0, 255).astype(np.uint8)
    if rng.random() < 0.05:  # interlaced fields
        photo[1::2] = np.roll(photo, rng.choice([-2, -1, 1, 2]), 1)[1::2]
    if rng.random() < 0.12:  # video: coarse colour, smoothed blocks, ghost of the frame before
        photo = cv2.addWeighted(photo, 0.8, np.roll(photo, rng.randint(-2, 2), 1), 0.2, 0)
        photo = jpeg(cv2.bilateralFilter(photo, 5, 25, 3), rng.randint(15, 45))
    if rng.random() < 0.7:
        photo = jpeg(photo, rng.randint(30 if light >= 0.20 else 60, 96))
    return photo


def jpeg(photo, quality):
    return cv2.imdecode(cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def estimated(rng, nrng, corners):
    """Corners as they come after correction: shifted, scaled, uneven, now and then half-way to the upright box.

    Half as wrong again as the corrected corners of rendered plates are (see the card of the corner network).
    """
    along = corners[1] + corners[2] - corners[0] - corners[3]
    down = corners[2] + corners[3] - corners[0] - corners[1]
    along, down = along / 2, down / 2
    rough = rng.choice([0.3, 0.6, 0.6, 1.2])
    guess = corners.copy()
    low, high = guess.min(0), guess.max(0)
    if rng.random() < 0.06:
        upright = np.float32([low, (high[0], low[1]), high, (low[0], high[1])])
        guess = guess + (upright - guess) * rng.uniform(0, 0.6)
    wide, tall = 1 + rng.gauss(0, 0.025) * rough, 1 + rng.gauss(0, 0.06) * rough
    unit_along, unit_down = along / np.linalg.norm(along), down / np.linalg.norm(down)
    for k, (sx, sy) in enumerate(((-1, -1), (1, -1), (1, 1), (-1, 1))):
        guess[k] += along * sx * (wide - 1) / 2 + down * sy * (tall - 1) / 2
    guess += along * rng.gauss(0, 0.018) * rough + down * rng.gauss(0, 0.035) * rough
    length, breadth = np.linalg.norm(along), np.linalg.norm(down)
    for k in range(4):
        guess[k] += unit_along * rng.gauss(0, 0.010) * rough * length + unit_down * rng.gauss(0, 0.035) * rough * breadth
    return guess.astype(np.float32)


def window(photo, corners, region, width, height):
    """The part of a plate inside `region` (shares of its width and height), as a picture of the given size."""
    left, top, right, bottom = region
    unit = np.float32([[0, 0], [1, 0], [1, 1], [0, 1]])
    inside = (unit - (left, top)) / (right - left, bottom - top) * (width, height)
    transform = cv2.getPerspectiveTransform(np.asarray(corners, np.float32), inside.astype(np.float32))
    return cv2.warpPerspective(photo, transform, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def cut(photo, corners, folded=False):
    """The reader's input (the product's preprocessing); large plates are averaged down first.

    `folded` puts the two rows of a two-row plate side by side.
    """
    across = max(np.linalg.norm(corners[1] - corners[0]), np.linalg.norm(corners[2] - corners[3])) * (1 + 2 * forms.MARGIN_X)
    factor = forms.WIDTH / across
    if factor < 0.67:
        small = cv2.resize(photo, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        scale = np.float32([small.shape[1] / photo.shape[1], small.shape[0] / photo.shape[0]])
        photo, corners = small, corners * scale
    if folded:
        top = window(photo, corners, forms.FOLD_TOP, forms.FOLD_X, forms.HEIGHT)
        bottom = window(photo, corners, forms.FOLD_BOTTOM, forms.WIDTH - forms.FOLD_X, forms.HEIGHT)
        return np.hstack([top, bottom])
    whole = (-forms.MARGIN_X, -forms.MARGIN_Y, 1 + forms.MARGIN_X, 1 + forms.MARGIN_Y)
    return window(photo, corners, whole, forms.WIDTH, forms.HEIGHT)


def pasted(photo, picture, corners, seen):
    """The photo with a flat picture in it, whose `corners` come to lie at `seen`."""
    height, width = photo.shape[:2]
    shrink = (corners[1, 0] - corners[0, 0]) / (seen[:, 0].max() - seen[:, 0].min())
    if shrink > 1.4:
        picture = cv2.GaussianBlur(picture, (0, 0), 0.35 * shrink)
    transform = cv2.getPerspectiveTransform(corners, seen)
    warped = cv2.warpPerspective(picture, transform, (width, height), flags=cv2.INTER_LINEAR)
    mask = cv2.warpPerspective(np.full(picture.shape[:2], 255, np.uint8), transform, (width, height), flags=cv2.INTER_LINEAR)
    alpha = (mask.astype(np.float32) / 255)[..., None]
    return (photo + (warped.astype(np.float32) - photo) * alpha).astype(np.uint8)


def photograph(rng, nrng, assets, picture, corners, pixel_width, steep=False):
    """Sets a flat picture in its surroundings, seen by a camera; returns the photo and the true corners."""
    flat_width = corners[1, 0] - corners[0, 0]
    flat_height = corners[2, 1] - corners[0, 1]
    seen = view(rng, flat_width / flat_height, pixel_width, steep)
    extent = seen.max(0) - seen.min(0)
    pad = np.maximum(extent * (0.12, 0.3), 4)
    seen = (seen - seen.min(0) + pad).astype(np.float32)
    width, height = (int(v) for v in np.ceil(extent + 2 * pad))
    return pasted(surroundings(rng, nrng, assets, height, width), picture, corners, seen), seen


def overlay(rng, assets, photo):
    """Writes a recorder's date or place name over the edge of the plate."""
    height, width = photo.shape[:2]
    mask = rng.choice(assets.captions)
    h = max(5, int(height * rng.uniform(0.1, 0.22)))
    w = min(width, int(mask.shape[1] * h / mask.shape[0]))
    x, y = rng.randint(0, width - w), rng.choice([int(height * 0.05), int(height * 0.95) - h])
    region = photo[y:y + h, x:x + w]
    photo[y:y + h, x:x + w] = blend(region, cv2.resize(mask, (w, h), interpolation=cv2.INTER_AREA), rng.choice([(255, 255, 255), (255, 255, 0), (0, 0, 0)]))


def plate_width(rng):
    """Width in pixels: most plates of traffic cameras are small."""
    return math.exp(rng.uniform(math.log(44), math.log(130))) if rng.random() < 0.65 else rng.uniform(100, 300)


def plate_crop(rng, nrng, assets, kind, text, colour, rows, spoil=None, pixels=None, folded=False):
    """One crop of a plate, `pixels` wide in the photo; `spoil` makes it unreadable: covered, blurred or misplaced."""
    plate = wear(rng, nrng, draw_plate(rng, nrng, assets, kind, text, colour, rows))
    height, width = plate.shape[:2]
    if spoil == "covered":
        cover = surroundings(rng, nrng, assets, height, width)
        share = rng.uniform(0.45, 1.0)
        x = rng.choice([0, int(width * (1 - share))])
        w = int(width * share)
        plate[:, x:x + w] = cover[:, x:x + w]
    if rng.random() < 0.45:
        picture, corners = framed(rng, nrng, assets, plate)
    else:
        picture, corners = plate, np.float32([[0, 0], [width, 0], [width, height], [0, height]])
    pixels = rng.uniform(14, 26) if spoil == "blurred" else pixels or plate_width(rng)
    photo, seen = photograph(rng, nrng, assets, picture, corners, pixels, steep=rng.random() < 0.15)
    if rng.random() < 0.04:
        overlay(rng, assets, photo)
    photo = camera(rng, nrng, photo, pixels / 8)
    guess = estimated(rng, nrng, seen)
    if spoil == "misplaced":
        along, down = (guess[1] - guess[0]), (guess[3] - guess[0])
        if rng.random() < 0.5:
            guess += along * rng.choice([-1, 1]) * rng.uniform(0.4, 0.9)
        else:
            guess += down * rng.choice([-1, 1]) * rng.uniform(0.55, 1.0)
    return cut(photo, guess.astype(np.float32), folded)


def other_crop(rng, nrng, assets):
    """One crop without a plate: surroundings, or text on a lorry or a sign."""
    height, width = 105, 330
    picture = surroundings(rng, nrng, assets, height, width)
    if rng.random() < 0.6:
        if rng.random() < 0.6:
            picture[:] = np.clip(np.array(rng.choice([p[0] for p in PAINT.values()])) + nrng.normal(0, 40, 3), 0, 255).astype(np.uint8)
        for row in range(rng.choice([1, 1, 2])):
            mask = rng.choice(assets.captions)
            h = rng.randint(30, 80)
            w = min(width - 4, int(mask.shape[1] * h / mask.shape[0]))
            x, y = rng.randint(0, width - w), rng.randint(0, height - h)
            ink = nrng.uniform(0, 255, 3)
            picture[y:y + h, x:x + w] = blend(picture[y:y + h, x:x + w], cv2.resize(mask, (w, h), interpolation=cv2.INTER_AREA), ink)
    corners = np.float32([[0, 0], [width, 0], [width, height], [0, height]])
    pixels = plate_width(rng)
    photo, seen = photograph(rng, nrng, assets, picture, corners, pixels)
    return cut(camera(rng, nrng, photo, pixels / 8), estimated(rng, nrng, seen))


def sample(rng, nrng, assets, negatives=0.12):
    """One training sample: crop, character indices, stacked rows less one, colour, kind, readable.

    A folded crop no longer shows stacked rows: it counts as one row.
    """
    kind, text, colour, rows = forms.draw(rng)
    labels = (forms.encode(text), rows - 1, forms.COLOURS.index(colour), forms.KINDS.index(kind))
    if rng.random() >= negatives:
        folded = rows == 2 and rng.random() < 0.8
        crop = plate_crop(rng, nrng, assets, kind, text, colour, rows, folded=folded)
        return crop, labels[0], 0 if folded else labels[1], *labels[2:], 1
    spoil = rng.choice(["covered", "blurred", "misplaced", None, None, None, None])
    crop = plate_crop(rng, nrng, assets, kind, text, colour, rows, spoil) if spoil else other_crop(rng, nrng, assets)
    return crop, *labels, 0


def render_shard(job):
    folder, out, count, seed, part = job
    cv2.setNumThreads(1)
    rng = random.Random(seed * 1000 + part)
    nrng = np.random.default_rng(seed * 1000 + part)
    assets = Assets(folder)
    crops = np.empty((count, forms.HEIGHT, forms.WIDTH, 3), np.uint8)
    labels = np.empty((count, forms.POSITIONS + 4), np.uint8)
    for i in range(count):
        crops[i], text, *rest = sample(rng, nrng, assets)
        labels[i] = [*text, *rest]
    np.savez(f"{out}/shard_{seed}_{part}.npz", crops=crops, labels=labels)


def render(folder, out, count, seed, workers=2, per_shard=10000):
    """Renders `count` samples into shards; the same seed gives the same pictures whatever the number of workers."""
    os.makedirs(out, exist_ok=True)
    jobs = [(folder, out, min(per_shard, count - start), seed, i) for i, start in enumerate(range(0, count, per_shard))]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for _ in pool.imap_unordered(render_shard, jobs, chunksize=1):
            pass


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("assets")
    parser.add_argument("out")
    parser.add_argument("--count", type=int, default=100000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    render(args.assets, args.out, args.count, args.seed, args.workers)
