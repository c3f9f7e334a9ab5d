"""Trains the plate reader from rendered plates and writes the ONNX file and its alphabet.

    python train.py ASSETS --work FOLDER --out ../plate-reader-guiji.onnx

Renders the training and held-aside sets into FOLDER unless they are already there, trains in rounds (each a
cosine schedule on crops of its own), takes the mean of what the rounds end with (which reads better than
either end: Wortsman et al., "Model soups", 2022), fits the temperatures on the held-aside set and exports.
Same seeds, same sets.
"""

import argparse
import glob
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

import network
import plate_forms as forms
import render

HELD_SEED = 9000  # the held-aside set; training sets use other seeds
SIDE_WEIGHT = 0.25
SHIFT_X, SHIFT_Y = 3, 2


def set_up(seed):
    """Two threads, fixed seeds."""
    tf.config.threading.set_intra_op_parallelism_threads(2)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    keras.utils.set_random_seed(seed)


def load(folder, seeds):
    """Crops and labels of the shards with the given seeds."""
    shards = [np.load(path) for seed in seeds for path in sorted(glob.glob(f"{folder}/shard_{seed}_*.npz"))]
    return np.concatenate([s["crops"] for s in shards]), np.concatenate([s["labels"] for s in shards])


def picks(rng, count, size):
    """Endless batches of indices, each index once a round."""
    while True:
        order = rng.permutation(count)
        for start in range(0, count - size + 1, size):
            yield np.sort(order[start:start + size])


def batches(crops, labels, size, seed):
    """Endless shuffled batches with small random shifts."""
    rng = np.random.default_rng(seed)
    for pick in picks(rng, len(crops), size):
        padded = np.pad(crops[pick], ((0, 0), (SHIFT_Y, SHIFT_Y), (SHIFT_X, SHIFT_X), (0, 0)), mode="edge")
        batch = np.empty((size, forms.HEIGHT, forms.WIDTH, 3), np.uint8)
        for i in range(size):
            y, x = rng.integers(0, 2 * SHIFT_Y + 1), rng.integers(0, 2 * SHIFT_X + 1)
            batch[i] = padded[i, y:y + forms.HEIGHT, x:x + forms.WIDTH]
        yield batch, labels[pick].astype(np.int32)


def losses(outputs, labels):
    """Weighted sum of the cross-entropies; unreadable crops teach only `readable`."""
    characters, rows, colour, kind, readable = outputs
    readable_label = tf.cast(labels[:, -1], tf.float32)
    weight = readable_label / tf.maximum(tf.reduce_sum(readable_label), 1.0)
    entropy = tf.nn.sparse_softmax_cross_entropy_with_logits
    text = tf.reduce_sum(entropy(labels[:, :forms.POSITIONS], characters), axis=1)
    sides = sum(entropy(labels[:, forms.POSITIONS + i], logits) for i, logits in enumerate((rows, colour, kind)))
    seen = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(readable_label, readable[:, 0]))
    text = tf.reduce_sum(text * weight)
    return text + SIDE_WEIGHT * tf.reduce_sum(sides * weight) + seen, text


def optimizer(model, steps, rate):
    """AdamW with a short warm-up and a cosine descent."""
    warm_up = min(300, steps // 10)
    schedule = keras.optimizers.schedules.CosineDecay(1e-4, steps - warm_up, alpha=0.003, warmup_target=rate, warmup_steps=warm_up)
    adam = keras.optimizers.AdamW(schedule, weight_decay=0.01, clipnorm=5.0)
    adam.exclude_from_weight_decay(var_names=["bias", "gamma", "beta", "value"])
    adam.build(model.trainable_variables)
    return adam


def fit(model, crops, labels, steps, size, rate, seed, checkpoint):
    """One cosine run with a short warm-up; `checkpoint(step)` is called now and then."""
    adam = optimizer(model, steps, rate)

    @tf.function(jit_compile=False)
    def step(images, targets):
        x = tf.cast(images, tf.float32) / 255.0
        channel_gain = tf.exp(tf.random.normal([tf.shape(x)[0], 1, 1, 3], 0.0, 0.06))
        gamma = tf.exp(tf.random.normal([tf.shape(x)[0], 1, 1, 1], 0.0, 0.15))
        x = tf.minimum(tf.pow(x, gamma) * channel_gain, 1.0)
        with tf.GradientTape() as tape:
            total, text = losses(model(x, training=True), targets)
        adam.apply(tape.gradient(total, model.trainable_variables), model.trainable_variables)
        return text

    start, recent = time.time(), []
    for number, (images, targets) in enumerate(batches(crops, labels, size, seed), 1):
        recent.append(step(images, targets))
        if number % 100 == 0:
            print(f"step {number} text loss {np.mean([float(r) for r in recent]):.3f} {number * size / (time.time() - start):.0f} samples/s", flush=True)
            recent = []
        if number % 1500 == 0:
            checkpoint(number)
        if number >= steps:
            return


def predict(model, crops, size=256):
    """Logits of every output over a set."""
    call = tf.function(lambda x: tf.nest.flatten(model(tf.cast(x, tf.float32) / 255.0, training=False)))
    parts = [call(crops[i:i + size]) for i in range(0, len(crops), size)]
    return [np.concatenate([p[k].numpy() for p in parts]) for k in range(len(parts[0]))]


def best_temperature(loss):
    """Temperature with the least loss, by search over a fine grid."""
    grid = np.exp(np.linspace(np.log(0.5), np.log(3.0), 61))
    return float(grid[np.argmin([loss(t) for t in grid])])


def calibrate(outputs, labels):
    """Temperatures for the characters and for `readable`, with figures of the held-aside set."""
    readable = labels[:, -1] == 1
    logits, truth = outputs[0][readable].astype(np.float64), labels[readable][:, :forms.POSITIONS].astype(int)

    def text_loss(t):
        scaled = logits / t
        scaled = scaled - scaled.max(-1, keepdims=True)
        log = scaled - np.log(np.exp(scaled).sum(-1, keepdims=True))
        return -np.take_along_axis(log, truth[..., None], -1).mean()

    def readable_loss(t):
        z = outputs[4][:, 0].astype(np.float64) / t
        return np.mean(np.logaddexp(0, z) - z * readable)

    guess = logits.argmax(-1)
    figures = {"whole": (guess == truth).all(1).mean(), "characters": (guess == truth).mean()}
    for i, name in enumerate(("rows", "colour", "kind"), 1):
        figures[name] = (outputs[i][readable].argmax(1) == labels[readable][:, forms.POSITIONS + i - 1]).mean()
    figures["readable"] = ((outputs[4][:, 0] > 0) == readable).mean()
    return best_temperature(text_loss), best_temperature(readable_loss), figures


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("assets", help="folder with font_model, plate_model and behind")
    parser.add_argument("--work", required=True, help="folder for rendered crops and checkpoints")
    parser.add_argument("--out", default="../plate-reader-guiji.onnx")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2], help="rendering seeds, one a round")
    parser.add_argument("--count", type=int, default=160000, help="crops a seed")
    parser.add_argument("--steps", type=int, nargs="+", default=[10000, 5000], help="of each round")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rates", type=float, nargs="+", default=[2e-3, 1e-3], help="of learning, in each round")
    parser.add_argument("--start", help="weights to start from")
    args = parser.parse_args()

    set_up(args.seeds[0])
    for seed, count in [(HELD_SEED, 6000)] + [(seed, args.count) for seed in args.seeds]:
        if not glob.glob(f"{args.work}/shard_{seed}_*.npz"):
            render.render(args.assets, args.work, count, seed)

    model = network.build()
    if args.start:
        model.load_weights(args.start)
    held_crops, held_labels = load(args.work, [HELD_SEED])
    print(f"{model.count_params()} parameters, {len(held_crops)} crops held aside", flush=True)

    def checkpoint(step):
        outputs = predict(model, held_crops)
        text_temperature, readable_temperature, figures = calibrate(outputs, held_labels)
        print(f"held aside at {step}:", {k: round(float(v), 4) for k, v in figures.items()},
              f"temperatures {text_temperature:.3f} {readable_temperature:.3f}", flush=True)
        model.save_weights(f"{args.work}/reader.weights.h5")
        network.export_onnx(model, args.out, text_temperature, readable_temperature)

    ends = []
    for seed, steps, rate in zip(args.seeds, args.steps, args.rates, strict=True):
        crops, labels = load(args.work, [seed])
        fit(model, crops, labels, steps, args.batch, rate, seed, checkpoint)
        ends.append(model.get_weights())
    model.set_weights([np.mean(weights, axis=0) for weights in zip(*ends)])
    checkpoint(sum(args.steps))
    with open(os.path.splitext(args.out)[0] + ".charset.txt", "w", encoding="utf-8") as file:
        file.write("\n".join(forms.CHARSET) + "\n")


if __name__ == "__main__":
    main()
