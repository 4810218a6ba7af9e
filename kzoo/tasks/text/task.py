"""A text recipe at work with its data."""

from typing import Any

import numpy as np

from kzoo.data.spacing import spaced
from kzoo.data.text import batches, sources
from kzoo.data.text.corpus import Corpus, open_corpus
from kzoo.errors import RequestError
from kzoo.recipe import from_values
from kzoo.run import Run
from kzoo.tasks import base, fitting, optimizers, precision
from kzoo.tasks.text import network as networks
from kzoo.tasks.text import scoring
from kzoo.tasks.text.answers import Answers
from kzoo.tasks.text.callbacks import Samples
from kzoo.tasks.text.settings import RANGES
from kzoo.tasks.text.trainer import Trainer

SAMPLES, SAMPLE_LENGTH = 16, 32


class Task(base.Task):
    """A text recipe with its tokens."""

    default_monitor = "val_loss"
    corpus: Corpus

    def start(self, *, fresh: bool = True):
        """See `kzoo.tasks.base.Task.start`; also that an epoch has steps enough, and the network's kind of state."""
        fitting.epoch_steps(self.recipe.train, self._chunks().steps_per_pass)
        model = super().start(fresh=fresh)
        if networks.grows(model) and self.recipe.data.batching != "windows":
            raise RequestError(f"{self.recipe.model} does not carry its state in training: set data.batching=windows")
        self._state = {k: {"shape": list(s), "dtype": kind} for k, (s, kind) in networks.state_specs(model).items()}
        return model

    def open(self) -> None:
        """Read the text, cut it, and resolve vocabulary and precision."""
        optimizers.check(self.recipe.train)
        data = self.recipe.data
        self.corpus = open_corpus(
            sources.documents(data.source, data.reading()),
            tokenizer=data.tokenizer,
            errors=data.errors,
            min_count=data.min_count,
            validation=data.validation,
            test=data.test,
        )
        if data.sha256 not in (None, self.corpus.sha256):
            raise RequestError(f"{data.source} is another text than this run began with (data.sha256)")
        self._chunks()
        self._resolve()

    def card(self) -> dict[str, Any]:
        """Model, arguments, tokeniser, and what the model's state consists of (without the batch)."""
        return self.common_card(tokenizer=self.corpus.tokenizer.config(), state=self._state)

    def samples(self) -> dict[str, np.ndarray]:
        """Pieces of the part that is not trained on, where there is one: ``tokens``, int32 (pieces, tokens)."""
        parts = self.corpus.parts
        return _spaced(parts.get("test", parts.get("validation", parts["train"])), SAMPLES)

    def calibration(self, count: int) -> dict[str, np.ndarray]:
        """Pieces of the training part."""
        return _spaced(self.corpus.parts["train"], count)

    def fit(self, model, run: Run, until: int | None = None) -> dict[str, Any] | None:
        """Train on the training part, validated on the whole validation part.

        A recurrent network is validated with carried state, one whose state grows in windows of ``data.window``.
        """
        settings, chunks = self.recipe.train, self._chunks()
        held = self.corpus.parts.get("validation")
        layout = None
        if held is not None:
            windows = networks.grows(model)
            layout = scoring.windows(len(held), self.recipe.data.window) if windows else scoring.carried(len(held))
        trainer = Trainer(model, chunks.batch_size, None if layout is None else len(layout.places))
        watching = []
        if layout is not None and settings.sample.length:
            # A training's seed may be larger than that of a text.
            seed = settings.seed % (RANGES["seed"].high + 1)
            watching.append(Samples(model, Answers(self.card()), settings.sample, seed, run))
        return fitting.fit(
            trainer,
            run,
            settings,
            loss=None,
            metrics=[],
            monitor=self.monitor,
            training=lambda first, count: batches.dataset(chunks, first, count),
            validation=None if layout is None else self._validation(held, layout),
            steps_per_pass=chunks.steps_per_pass,
            items_per_step=chunks.batch_size * chunks.length,
            unit=f"{self.corpus.tokenizer.unit}s",
            dtype_policy=self.recipe.arguments.get("dtype_policy", "float32"),
            until=until,
            carried=trainer.carried,
            watching=watching,
        )

    @property
    def splits(self) -> set[str]:
        """Parts that the text has."""
        return set(self.corpus.parts)

    def evaluate(self, model, split: str) -> dict[str, Any]:
        """Loss in nats and bits under both protocols of `kzoo.tasks.text.scoring`."""
        parts = self.corpus.parts
        if split not in parts:
            raise RequestError(f"{self.recipe.data.source} has no {split} part; it has {', '.join(parts)}")
        return scoring.judge(model, parts[split], self.corpus.tokenizer.never, self.recipe.data.window)

    def notes(self) -> list[str]:
        """Unknown characters and what was no UTF-8, with their number."""
        lines = [
            f"{count:,} unknown characters in the {part} part" for part, count in self.corpus.unknown.items() if count
        ]
        if self.corpus.replaced:
            lines.append(f"{self.corpus.replaced:,} sequences of bytes were no UTF-8 and became U+FFFD")
        return lines

    def _resolve(self) -> None:
        """Fill in what follows from the text and this machine; refuse what contradicts the text."""
        values, data = self.recipe.values(), self.recipe.data
        values["data"] |= {**sources.located(data.source, data.reading()), "sha256": self.corpus.sha256}
        found, given = self.corpus.tokenizer.size, values["arguments"].get("vocab_size")
        if given is not None and given != found:
            raise RequestError(f"arguments.vocab_size is {given}, and the text of {data.source} has {found} tokens")
        values["arguments"]["vocab_size"] = found
        if self.takes("dtype_policy"):
            values["arguments"].setdefault("dtype_policy", precision.policy(self.recipe.train.precision))
        self.check_validation(self.corpus.parts)
        self.recipe = from_values(values, name=self.recipe.name)

    def _chunks(self) -> batches.Lanes | batches.Windows:
        data, seed = self.recipe.data, self.recipe.train.seed
        how = {"batch_size": data.batch_size, "length": data.length, "seed": seed}
        if data.batching == "windows":
            return batches.Windows(self.corpus.parts["train"], **how)
        return batches.Lanes(self.corpus.parts["train"], reset=data.reset, **how)

    def _validation(self, tokens: np.ndarray, layout: scoring.Layout):
        import tensorflow as tf

        rows, never = len(layout.places), self.corpus.tokenizer.never
        shapes = [((rows, layout.chunk), k) for k in (tf.int32, tf.int32, tf.bool)] + [((rows,), tf.bool)]
        dataset = tf.data.Dataset.from_generator(
            lambda: layout.chunks(tokens, never),
            output_signature=tuple(tf.TensorSpec(shape, kind) for shape, kind in shapes),
        )
        return dataset.apply(tf.data.experimental.assert_cardinality(len(layout))).prefetch(2)


def _spaced(tokens: np.ndarray, count: int) -> dict[str, np.ndarray]:
    """So many pieces of a text, evenly spaced."""
    length = min(SAMPLE_LENGTH, len(tokens))
    starts = spaced(len(tokens) - length + 1, count)
    return {"tokens": np.stack([tokens[s : s + length] for s in starts]).astype(np.int32)}
