"""The alphabet and the kinds of plates the reader knows: shared by renderer, trainer and evaluation.

Texts are at most eight characters, top row first, without dots; shorter ones end in `ABSENT`.
"""

import random

ABSENT = "absent"
DIGITS = "0123456789"
LETTERS = "ABCDEFGHJKLMNOPQRSTUVWXYZ"  # no I; O only stands in second place
PROVINCES = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"
MARKS = "警学挂港澳使领应急民航"
CHARSET = [ABSENT, *DIGITS, *LETTERS, *PROVINCES, *MARKS]
INDEX = {c: i for i, c in enumerate(CHARSET)}

POSITIONS = 8
WIDTH, HEIGHT = 168, 48
# The crop is the quadrilateral of the corners pushed outward by these shares of width and height,
# because corner estimates cut the first or last character more often than they leave too much.
MARGIN_X, MARGIN_Y = 0.05, 0.10

# A two-row plate is read from a folded crop: its top row in the left part, its bottom row in the right.
# Shares of the plate's width and height that each part shows: left, top, right, bottom.
FOLD_X = 58
FOLD_TOP = (0.12, -0.10, 0.88, 0.46)
FOLD_BOTTOM = (-0.05, 0.36, 1.05, 1.10)

COLOURS = ["blue", "yellow", "green", "yellow_green", "white", "black"]
KINDS = [
    "small_car", "large_vehicle", "trailer", "coach", "nev_small", "nev_large", "police", "emergency",
    "hongkong_macau", "embassy", "consulate", "motorcycle", "armed_police", "military", "agricultural",
    "civil_aviation",
]

SERIAL_LETTERS = LETTERS.replace("O", "")
# 浙 and its neighbours a little more often.
_PROVINCE_WEIGHTS = [3.0 if p == "浙" else 1.7 if p in "沪苏皖赣闽" else 1.0 for p in PROVINCES]


def encode(text):
    """Character indices of a text, padded with absent."""
    return [INDEX[c] for c in text] + [0] * (POSITIONS - len(text))


def province(rng):
    return rng.choices(PROVINCES, _PROVINCE_WEIGHTS)[0]


def office(rng):
    """Issuing office: mostly an early letter, as in the provinces' lists of cities; seldom the legacy O."""
    return "O" if rng.random() < 0.006 else rng.choice(SERIAL_LETTERS if rng.random() < 0.6 else SERIAL_LETTERS[:10])


def serial(rng, length, letter_share=0.35, letters=SERIAL_LETTERS):
    if rng.random() < 0.04:
        return rng.choice(DIGITS + letters) * length
    return "".join(rng.choice(letters) if rng.random() < letter_share else rng.choice(DIGITS) for _ in range(length))


def digits(rng, length):
    return serial(rng, length, letter_share=0.0)


# kind -> (share, maker); a maker returns (text, colour, rows).
def _small_car(rng):
    return province(rng) + office(rng) + serial(rng, 5), "blue", 1


def _large_vehicle(rng):
    return province(rng) + office(rng) + serial(rng, 5, 0.2), "yellow", rng.choice([1, 1, 1, 2, 2])


def _trailer(rng):
    return province(rng) + office(rng) + serial(rng, 4, 0.2) + "挂", "yellow", 2


def _coach(rng):
    return province(rng) + office(rng) + serial(rng, 4, 0.2) + "学", "yellow", 1


def _nev_small(rng):
    first = rng.choice("DF" if rng.random() < 0.6 else "ABCDEFGHJK")
    return province(rng) + office(rng) + first + serial(rng, 1) + digits(rng, 4), "green", 1


def _nev_large(rng):
    last = rng.choice("DF" if rng.random() < 0.6 else "ABCDEFGHJK")
    return province(rng) + office(rng) + digits(rng, 5) + last, "yellow_green", 1


def _police(rng):
    return province(rng) + office(rng) + serial(rng, 4, 0.15) + "警", "white", 1


def _emergency(rng):
    return province(rng) + rng.choice("XXS") + serial(rng, 4, 0.1) + "应急", "white", 1


def _hongkong_macau(rng):
    first = "粤" if rng.random() < 0.7 else province(rng)
    return first + ("Z" if rng.random() < 0.8 else office(rng)) + serial(rng, 4) + rng.choice("港澳"), "black", 1


def _embassy(rng):
    return ("使" + digits(rng, 6) if rng.random() < 0.6 else digits(rng, 6) + "使"), "black", 1


def _consulate(rng):
    body = province(rng) + office(rng) + digits(rng, 4)
    return (body + "领" if rng.random() < 0.85 else "领" + body), "black", 1


def _motorcycle(rng):
    return province(rng) + office(rng) + serial(rng, 5, 0.25), rng.choice(["yellow", "yellow", "blue"]), 2


def _armed_police(rng):
    body = digits(rng, 4) + rng.choice("0123456789TDSHBXJ")
    return "WJ" + (province(rng) if rng.random() < 0.85 else "") + body, "white", rng.choice([1, 1, 2])


def _military(rng):
    return rng.choice("VKHBSLJNGCEZ") + rng.choice(SERIAL_LETTERS) + serial(rng, 5, 0.05), "white", rng.choice([1, 1, 1, 2])


def _agricultural(rng):
    return province(rng) + digits(rng, 2) + serial(rng, 5, 0.1), "green", 2


def _civil_aviation(rng):
    return "民航" + rng.choice(SERIAL_LETTERS) + digits(rng, 4), rng.choice(["green", "white"]), 1


_MAKERS = {
    "small_car": (40, _small_car), "large_vehicle": (15, _large_vehicle), "trailer": (4, _trailer), "coach": (3, _coach),
    "nev_small": (11, _nev_small), "nev_large": (5, _nev_large), "police": (4, _police), "emergency": (1, _emergency),
    "hongkong_macau": (3, _hongkong_macau), "embassy": (2, _embassy), "consulate": (2, _consulate),
    "motorcycle": (6, _motorcycle), "armed_police": (4, _armed_police), "military": (3, _military),
    "agricultural": (5, _agricultural), "civil_aviation": (0.5, _civil_aviation),
}


def draw(rng):
    """A random plate: (kind, text, colour, rows)."""
    kind = rng.choices(list(_MAKERS), [share for share, _ in _MAKERS.values()])[0]
    return (kind, *_MAKERS[kind][1](rng))
