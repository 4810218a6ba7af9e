"""What the zoo costs: `kzoo train` against a hand-written Keras `fit` on the same model and a tuned tf.data pipeline.

    python tools/bench_overhead.py --write

Both train the same network with the same augmentation (flip, shift by up to two pixels), optimiser and batch size on
the same random images, alternately, in one process. The first epoch of each training is dropped: it compiles. kzoo's
side does all that `kzoo train` does: checkpoints, figures, TensorBoard.
"""

import argparse
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from measurements import save

import kzoo
from kzoo.allocator import keep_freed_memory
from kzoo.recipe import from_values

CASES = {
    "cnn_classifier": ({"input_shape": (32, 32, 3), "filters": (16, 32, 64), "blocks_per_stage": 1}, 60),
    "mlp_classifier": ({"input_shape": (28, 28, 1)}, 400),
}
BATCH, EPOCHS, IMAGES = 128, 4, 12_800


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--write", action="store_true", help="record the figures for RESULTS.md")
    given = parser.parse_args()
    keep_freed_memory()
    found = {}
    for model, (arguments, steps) in CASES.items():
        ratios, speeds = [], {"kzoo": [], "by_hand": []}
        for number in range(given.rounds):
            sides = [("kzoo", zoo), ("by_hand", by_hand)]
            for name, train in sides if number % 2 == 0 else reversed(sides):
                speeds[name].append(train(model, arguments, steps))
            pair = [speeds[name][-1] for name in ("kzoo", "by_hand")]
            ratios.append([pair[0][i] / pair[1][i] for i in range(2)])
            print(f"{model} round {number + 1}: kzoo {pair[0][0]:,.0f}, by hand {pair[1][0]:,.0f} images/s")
        found[model] = {
            "images_per_second": {n: round(statistics.median(v[0] for v in s)) for n, s in speeds.items()},
            "ratio_wall": round(statistics.median(r[0] for r in ratios), 3),
            "ratio_cpu": round(statistics.median(r[1] for r in ratios), 3),
            "rounds": given.rounds,
        }
        print(model, found[model])
    if given.write:
        save("overhead", found)


def images(shape: tuple) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (IMAGES, *shape), dtype=np.uint8), rng.integers(0, 10, IMAGES)


def zoo(model: str, arguments: dict, steps: int) -> tuple[float, float]:
    """Images per second of wall time and of processor time, by the run's own clock."""
    with tempfile.TemporaryDirectory() as folder:
        pixels, labels = images(arguments["input_shape"])
        np.savez(f"{folder}/data.npz", x_train=pixels, y_train=labels)
        recipe = from_values(
            {
                "model": model,
                "arguments": arguments,
                "data": {
                    "source": f"npz:{folder}/data.npz",
                    "batch_size": BATCH,
                    "validation": 0.0,
                    "augment": {"flip": "horizontal", "translate": 2},
                },
                "train": {
                    "epochs": EPOCHS,
                    "steps_per_epoch": steps,
                    "precision": "float32",
                    "optimizer": {"name": "sgd", "learning_rate": 0.01, "momentum": 0.9},
                },
            }
        )
        with clocked_epochs() as clock:
            kzoo.train(recipe, out=Path(folder) / "run")
    return clock.speed(steps)


def by_hand(model: str, arguments: dict, steps: int) -> tuple[float, float]:
    """The same in plain Keras and tf.data: batches first, then one vectorised change of each batch."""
    import keras
    import tensorflow as tf

    pixels, labels = images(arguments["input_shape"])
    height, width, _ = arguments["input_shape"]
    mean, deviation = pixels.mean((0, 1, 2), dtype=np.float32), pixels.std((0, 1, 2), dtype=np.float32)

    def change(batch, numbers):
        count = tf.shape(batch)[0]
        flip = tf.where(tf.random.uniform([count]) < 0.5, 1.0, -1.0)
        x, y = (tf.cast(tf.random.uniform([count], -2, 3, tf.int32), tf.float32) for _ in range(2))
        offset = tf.where(flip > 0, x, width - 1.0 + x)
        zero, one = tf.zeros([count]), tf.ones([count])
        transforms = tf.stack([flip, zero, offset, zero, one, y, zero, zero], 1)
        batch = tf.raw_ops.ImageProjectiveTransformV3(
            images=batch,
            transforms=transforms,
            output_shape=[height, width],
            fill_value=0.0,
            interpolation="NEAREST",
            fill_mode="REFLECT",
        )
        return (tf.cast(batch, tf.float32) - mean) / deviation, tf.one_hot(numbers, 10)

    data = tf.data.Dataset.from_tensor_slices((pixels, labels)).cache().shuffle(IMAGES).repeat()
    data = data.batch(BATCH, drop_remainder=True).map(change, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    network = kzoo.build(model, **arguments)
    network.compile(
        keras.optimizers.SGD(0.01, 0.9), keras.losses.CategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )
    with clocked_epochs() as clock:
        network.fit(data, epochs=EPOCHS, steps_per_epoch=steps, verbose=0)
    return clock.speed(steps)


class clocked_epochs:
    """Reads the clocks at each epoch's begin and end of any Keras training inside."""

    def __enter__(self):
        import keras

        self.list, self.marks, clock = keras.callbacks.CallbackList, [], self
        self.original = self.list.on_epoch_begin, self.list.on_train_end

        def begin(callbacks, *arguments, **more):
            clock.mark()
            return clock.original[0](callbacks, *arguments, **more)

        def end(callbacks, *arguments, **more):
            clock.mark()
            return clock.original[1](callbacks, *arguments, **more)

        self.list.on_epoch_begin, self.list.on_train_end = begin, end
        return self

    def __exit__(self, *_):
        self.list.on_epoch_begin, self.list.on_train_end = self.original

    def mark(self) -> None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        self.marks.append((time.perf_counter(), used.ru_utime + used.ru_stime))

    def speed(self, steps: int) -> tuple[float, float]:
        """Images per second of wall and of processor time after the first epoch."""
        epochs = len(self.marks) - 2
        return tuple(epochs * steps * BATCH / (self.marks[-1][i] - self.marks[1][i]) for i in range(2))


if __name__ == "__main__":
    main()
