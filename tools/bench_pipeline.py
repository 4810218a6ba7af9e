"""The input pipeline alone: images per second and processor time per image, against the usual ways.

    python tools/bench_pipeline.py --write

32x32x3 images in memory, flip and shift by up to four pixels, to normalised float32 batches of 256. All ways run
alternately in one process; the rate at which the cifar10 recipe's network consumes images is measured beside them.
"""

import argparse
import resource
import statistics
import time

import numpy as np
from measurements import save

import kzoo
from kzoo.allocator import keep_freed_memory
from kzoo.data.images import Images
from kzoo.data.pipeline import Batches, Normalization
from kzoo.quiet import import_keras

BATCH, IMAGES, SECONDS = 256, 20_480, 3.0
MEAN, STD = (125.3, 123.0, 113.9), (63.0, 62.1, 66.7)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="record the figures for RESULTS.md")
    given = parser.parse_args()
    keep_freed_memory()
    import_keras()
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, IMAGES)
    ways = {
        "kzoo": zoo(pixels, labels, {"flip": "horizontal", "translate": 4}),
        "kzoo, with rotation and zoom": zoo(
            pixels, labels, {"flip": "horizontal", "translate": 4, "rotate": 10.0, "zoom": 0.1}
        ),
        "kzoo, with cutout": zoo(pixels, labels, {"flip": "horizontal", "translate": 4, "cutout": 8}),
        "tf.data, map per image": per_image(pixels, labels),
        "Keras layers on batches": keras_layers(pixels, labels),
    }
    rows = {name: [] for name in ways}
    for _ in range(given.rounds):
        for name, dataset in ways.items():
            rows[name].append(measure(dataset))
    found = {
        name: {
            "images_per_second": round(statistics.median(speed for speed, _ in measured)),
            "cpu_us": round(statistics.median(used for _, used in measured), 1),
        }
        for name, measured in rows.items()
    }
    consumed = consumption()
    found["network of cnn_classifier/cifar10"] = {"images_per_second": round(consumed)}
    for name, values in found.items():
        print(f"{name:36} {values}")
    print(f"the pipeline gives {found['kzoo']['images_per_second'] / consumed:.1f} x what the network consumes")
    if given.write:
        save("pipeline", found)


def zoo(pixels, labels, augment: dict):
    settings = kzoo.load_recipe("cnn_classifier/digits", {"data.augment": augment}).data.augment
    batches = Batches(
        Images(pixels, labels), classes=10, batch_size=BATCH, normalization=Normalization(MEAN, STD), settings=settings
    )
    return batches.training(0, 10**6)


def per_image(pixels, labels):
    import tensorflow as tf

    def change(image, label):
        image = tf.pad(image, [[4, 4], [4, 4], [0, 0]], "REFLECT")
        image = tf.image.random_flip_left_right(tf.image.random_crop(image, (32, 32, 3)))
        return (tf.cast(image, tf.float32) - MEAN) / STD, tf.one_hot(label, 10)

    data = tf.data.Dataset.from_tensor_slices((pixels, labels)).shuffle(IMAGES).repeat()
    return data.map(change, tf.data.AUTOTUNE).batch(BATCH).prefetch(tf.data.AUTOTUNE)


def keras_layers(pixels, labels):
    import keras
    import tensorflow as tf

    flip = keras.layers.RandomFlip("horizontal")
    shift = keras.layers.RandomTranslation(4 / 32, 4 / 32, fill_mode="reflect", interpolation="nearest")

    def change(images, numbers):
        images = shift(flip(tf.cast(images, tf.float32), training=True), training=True)
        return (images - MEAN) / STD, tf.one_hot(numbers, 10)

    data = tf.data.Dataset.from_tensor_slices((pixels, labels)).shuffle(IMAGES).repeat().batch(BATCH)
    return data.map(change, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def measure(dataset) -> tuple[float, float]:
    """Images per second of wall time, and microseconds of processor time for an image."""
    iterator = iter(dataset)
    for _ in range(10):
        next(iterator)
    began, used, count = time.perf_counter(), cpu(), 0
    while time.perf_counter() - began < SECONDS:
        next(iterator)
        count += BATCH
    return count / (time.perf_counter() - began), (cpu() - used) / count * 1e6


def consumption(steps: int = 12) -> float:
    """Images per second that the recipe's network trains on when its batches cost nothing."""
    import tensorflow as tf

    from kzoo.tasks import optimizers

    keras = import_keras()
    recipe = kzoo.load_recipe("cnn_classifier/cifar10")
    model, size = kzoo.build(recipe.model, **recipe.arguments), recipe.data.batch_size
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(optimizers.build(recipe.train, 100, "float32"), loss, jit_compile=recipe.train.jit_compile)
    batch = (np.random.default_rng(0).normal(size=(size, 32, 32, 3)).astype("float32"), np.eye(10, dtype="float32"))
    data = tf.data.Dataset.from_tensors((batch[0], np.resize(batch[1], (size, 10)))).repeat()
    model.fit(data, steps_per_epoch=3, verbose=0)
    began = time.perf_counter()
    model.fit(data, steps_per_epoch=steps, verbose=0)
    return steps * size / (time.perf_counter() - began)


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
