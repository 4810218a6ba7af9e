"""Texts written while the training goes on."""

import keras
import tensorflow as tf

from kzoo import console
from kzoo.files import write_text
from kzoo.run import Run
from kzoo.tasks.text.answers import Answers
from kzoo.tasks.text.settings import Sample


class Samples(keras.callbacks.Callback):
    """Writes a text after each validation, with the weights that were validated.

    It goes to the log, to ``samples/`` in the run's folder, and to TensorBoard.
    """

    def __init__(self, network, answers: Answers, settings: Sample, seed: int, run: Run):
        super().__init__()
        self.network, self.answers, self.settings, self.seed, self.run = network, answers, settings, seed, run
        self.epoch, self.board = 0, None

    def on_epoch_begin(self, epoch, logs=None):
        """Note the epoch's number."""
        self.epoch = epoch + 1

    def on_test_end(self, logs=None):
        """Write the text; the seed is always the same, so that texts of different epochs compare."""
        how = self.settings.model_dump(exclude={"prompt"})
        prompts = [self.settings.prompt]
        text = self.answers.answer(self.network, prompts, seed=self.seed, unknown="keep", **how)[0]["text"]
        console.say("".join(f"  | {line}\n" for line in text.splitlines()), end="")
        write_text(self.run.path / "samples" / f"epoch-{self.epoch:04d}.txt", text + "\n")
        if self.board is None:
            self.board = tf.summary.create_file_writer(str(self.run.path / "tensorboard" / "samples"))
        with self.board.as_default():
            tf.summary.text("sample", "\n".join(f"    {line}" for line in text.splitlines()), self.epoch)
        self.board.flush()
