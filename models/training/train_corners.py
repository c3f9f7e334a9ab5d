"""Trains the network that puts a plate's corners right, from rendered windows, and writes the ONNX file.

    python train_corners.py ASSETS --photos PHOTOS --work FOLDER --out ../plate-corners-guiji.onnx

The windows are those of the plate detector (`train_detector.py`): only plates whose corners are known exactly
are learnt from. Every time a plate is shown, its corners are guessed anew, as wrongly as the detector does.
"""

import glob
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import cv2
import keras
import numpy as np
import tensorflow as tf

import corner_network as network
import photos
import render
import train
import train_detector
import windows

WIDTH_MIN = 32  # pixels of the window: narrower plates are not read anyway
HELD = 1500  # plates held aside
OFFSET_MAX = 0.8  # guesses that are further off are not a plate's any more
UNIT = np.float32([[0, 0], [1, 0], [1, 1], [0, 1]])


def guessed(rng, corners):
    """Corners as the detector finds them, scaled, shifted, uneven, sometimes those of the upright box or half-way, and
    what the network should say of them."""
    along, down = (corners[1] + corners[2] - corners[0] - corners[3]) / 2, (corners[2] + corners[3] - corners[0] - corners[1]) / 2
    low, high = corners.min(0), corners.max(0)
    guess = corners.copy()
    if rng.random() < 0.25:
        guess += (windows.box_corners(*low, *high) - guess) * (1.0 if rng.random() < 0.4 else rng.random())
    rough = rng.choice([0.4, 1.0, 1.0, 1.6])
    wide, tall = rng.normal(0, 0.05) * rough, rng.normal(-0.03, 0.12) * rough
    guess += (UNIT - 0.5)[:, :1] * along * wide + (UNIT - 0.5)[:, 1:] * down * tall
    guess += along * rng.normal(0, 0.03) * rough + down * rng.normal(0, 0.06) * rough
    guess += rng.normal(0, 0.02, (4, 1)) * rough * along + rng.normal(0, 0.05, (4, 1)) * rough * down
    guess = guess.astype(np.float32)
    answer = offsets(guess, corners)
    return (guess, answer) if np.abs(answer).max() <= OFFSET_MAX else guessed(rng, corners)


def shown(picture, guess):
    """The network's input around a guess."""
    region = (-network.MARGIN_X, -network.MARGIN_Y, 1 + network.MARGIN_X, 1 + network.MARGIN_Y)
    return render.window(picture, guess, region, network.WIDTH, network.HEIGHT)


def offsets(guess, corners):
    """What the network should say of a guess."""
    transform = cv2.getPerspectiveTransform(guess, UNIT)
    return (cv2.perspectiveTransform(corners[None], transform)[0] - UNIT).ravel()


def moved(guess, found):
    """The corners that the network's answer means."""
    transform = cv2.getPerspectiveTransform(UNIT, np.float32(guess))
    return cv2.perspectiveTransform((UNIT + np.float32(found).reshape(4, 2))[None], transform)[0]


def plates_of(labels):
    """`(window, corners)` of the plates that can be learnt from."""
    for window, plates in enumerate(labels):
        for plate in plates[plates[:, 8] == windows.CORNERS]:
            corners = plate[:8].reshape(4, 2)
            if np.ptp(corners[:, 0]) >= WIDTH_MIN:
                yield window, corners


def drawn(rng, pictures, plates, pick):
    """Inputs and answers for the picked plates, with new guesses."""
    inputs = np.empty((len(pick), network.HEIGHT, network.WIDTH, 3), np.uint8)
    answers = np.empty((len(pick), 8), np.float32)
    for i, index in enumerate(pick):
        window, corners = plates[index]
        guess, answer = guessed(rng, corners)
        inputs[i], answers[i] = shown(pictures[window], guess), answer
    return inputs, answers


def loss_of(found, answers):
    """Huber loss beyond two hundredths; a share of the width is three times a share of the height."""
    error = tf.abs(found - answers) * tf.constant([3.0, 1.0] * 4)
    return tf.reduce_mean(tf.where(error < 0.02, error * error / 0.04, error - 0.01))


def fit(model, pictures, plates, steps, size, rate, seed, checkpoint):
    """One cosine run with a short warm-up; `checkpoint(step)` is called now and then."""
    adam = train.optimizer(model, steps, rate)
    rng = np.random.default_rng(seed)

    @tf.function(jit_compile=False)
    def step(images, answers):
        x = tf.cast(images, tf.float32) / 255.0
        gain = tf.exp(tf.random.normal([tf.shape(x)[0], 1, 1, 3], 0.0, 0.1))
        gamma = tf.exp(tf.random.normal([tf.shape(x)[0], 1, 1, 1], 0.0, 0.25))
        x = tf.minimum(tf.pow(x, gamma) * gain, 1.0)
        with tf.GradientTape() as tape:
            loss = loss_of(model(x, training=True), answers)
        adam.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    start, recent = time.time(), []
    for number, pick in enumerate(train.picks(rng, len(plates), size), 1):
        recent.append(float(step(*drawn(rng, pictures, plates, pick))))
        if number % 100 == 0:
            print(f"step {number} loss {np.mean(recent):.4f} {number * size / (time.time() - start):.0f} samples/s", flush=True)
            recent = []
        if number % 1000 == 0 or number >= steps:
            checkpoint(number)
        if number >= steps:
            return


def main():
    args = train_detector.arguments(__doc__.split("\n")[0], "../plate-corners-guiji.onnx", steps=8000, batch=96, rate=2e-3).parse_args()

    train.set_up(args.seed)
    if not glob.glob(f"{args.work}/windows_{args.seed}_*.npz"):
        names = [row["id"] for row in photos.allowed_photos(args.photos)]
        windows.render_windows(args.assets, args.work, args.count, args.seed, args.photos, names)
    pictures, labels = train_detector.load(args.work, args.seed)
    plates = list(plates_of(labels))
    held, plates = plates[-HELD:], plates[:-HELD]
    model = network.build()
    print(f"{model.count_params()} parameters, {len(plates)} plates", flush=True)
    inputs, answers = drawn(np.random.default_rng(9000), pictures, held, range(len(held)))

    def checkpoint(step):
        left = answers - train.predict(model, inputs)[0]
        print(f"held aside at {step}: error of x {np.std(left[:, 0::2]):.4f} (guess {np.std(answers[:, 0::2]):.4f}), "
              f"of y {np.std(left[:, 1::2]):.4f} (guess {np.std(answers[:, 1::2]):.4f})", flush=True)
        model.save_weights(f"{args.work}/corners.weights.h5")
        network.export_onnx(model, args.out)

    fit(model, pictures, plates, args.steps, args.batch, args.rate, args.seed, checkpoint)


if __name__ == "__main__":
    main()
