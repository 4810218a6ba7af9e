"""From prompts to texts, in Python and inside exported graphs."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kzoo.data.reading import Reading
from kzoo.data.text import corpus, sources, tokenizers
from kzoo.errors import RequestError, nearest
from kzoo.ranges import Range
from kzoo.tasks import base
from kzoo.tasks.text import network as networks
from kzoo.tasks.text import sampling, scoring, strings, surprise
from kzoo.tasks.text.sampling import Choice
from kzoo.tasks.text.settings import RANGES

# What the exported doors are verified with: long enough to show an error in the state, few enough to be quick.
VERIFIED_LENGTH = 24


class Answers(base.Answers):
    """A trained language model's continuations."""

    def __init__(self, card: dict[str, Any]):
        super().__init__(card)
        self.tokenizer = tokenizers.from_config(card["tokenizer"])
        # An empty prompt is continued as the beginning of a line is.
        self.beginning = int(self.tokenizer.encode("\n")[0]) or 1
        self._writer: _Writer | None = None

    def answer(
        self,
        model,
        inputs: list,
        *,
        length: int = 500,
        num: int = 1,
        seed: int = 0,
        unknown: str = "error",
        **choice,
    ) -> list[dict[str, Any]]:
        """Continue prompts.

        Args:
            model: The network.
            inputs: Prompts; an empty one is continued as the beginning of a line is.
            length: Tokens to write, at least 1.
            num: Continuations of each prompt.
            seed: Fixes the texts, in [0, 2**31); more or fewer of them at once are other texts.
            unknown: What a prompt's unknown characters do: ``error``, ``skip``, or ``keep`` for reading each as the
                unknown character.
            **choice: Attributes of `kzoo.tasks.text.sampling.Choice`.

        Returns:
            For each prompt and continuation its ``input``, ``continuation`` and ``text``, which is both together.

        Raises:
            RequestError: A number is out of its range, or a prompt has unknown characters.
        """
        prompts = [p for p in inputs for _ in range(num)]
        written = [[] for _ in prompts]
        for piece in self._pieces(model, prompts, length, length, seed, unknown, choice):
            for whole, part in zip(written, piece, strict=True):
                whole.append(part)
        texts = ["".join(w) for w in written]
        return [{"input": p, "continuation": t, "text": p + t} for p, t in zip(prompts, texts, strict=True)]

    def stream(
        self, model, prompt: str, *, length: int = 500, seed: int = 0, unknown: str = "error", **choice
    ) -> Iterator[str]:
        """The continuation of one prompt piece by piece, as it is written; the same text as that of `answer`.

        Args and errors: see `answer`; what is wrong is raised before the first piece is asked for.
        """
        pieces = self._pieces(model, [prompt], length, sampling.BLOCK, seed, unknown, choice)
        return (piece[0] for piece in pieces)

    def judge(self, model, source: str, *, window: int = 256, errors: str = "strict") -> tuple[dict, str, np.ndarray]:
        """What a text costs the model.

        Args:
            model: The network.
            source: A file's path, or a text source as a recipe names it, such as ``folder:PATH``.
            window: Length of the windows from an empty state.
            errors: ``strict``, or ``replace`` for what is no UTF-8.

        Returns:
            Figures as of `kzoo.tasks.text.scoring.judge`, with ``characters`` and ``bits_per_character``; the text's
            beginning, and bits of each of its characters, NaN for those that were not judged.

        Raises:
            RequestError: There is no such text, or it is too short, no UTF-8 or unknown throughout.
        """
        documents = sources.documents(source if ":" in source else f"file:{source}", Reading())
        tokens, never = corpus.read(documents, self.tokenizer, errors), self.tokenizer.never
        costs = scoring.surprise(model, tokens, scoring.carried(len(tokens)), never)
        if np.isnan(costs).all():
            raise RequestError(f"{source} has no character behind its first that the model knows: nothing to judge")
        cut = scoring.surprise(model, tokens, scoring.windows(len(tokens), window), never)
        starts = self.tokenizer.starts(tokens)
        bits = costs / np.log(2, dtype=np.float32)
        found = scoring.figures(costs, cut, window)
        found |= {
            "characters": int(starts.sum()),
            "bits_per_character": float(np.nansum(bits) / max(starts[1:].sum(), 1)),
        }
        if self.tokenizer.kind == "characters":
            found["bits_per_character"] = found["bits"]
        shown = np.flatnonzero(starts)[: surprise.MOST + 1]
        end = shown[surprise.MOST] if len(shown) > surprise.MOST else len(tokens)
        return found, self.tokenizer.decode(tokens[:end]), np.add.reduceat(bits[:end], shown[: surprise.MOST])

    def table(self, answers: list[dict[str, Any]]) -> list[list[str]]:
        """Each prompt with its continuation."""
        return [["input", "continuation"], *([a["input"], a["continuation"]] for a in answers)]

    def blank(self) -> dict[str, np.ndarray]:
        """The beginning of a line, twice."""
        return {"tokens": np.full((1, 2), self.beginning, np.int32)}

    def network_inputs(self, samples: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Samples as the plain network takes them: tokens, and a state that has read nothing."""
        rows = len(samples["tokens"])
        state = {
            k: np.zeros((rows, *(size or 0 for size in s["shape"])), s["dtype"]) for k, s in self.card["state"].items()
        }
        return {"tokens": samples["tokens"], **state}

    def signatures(self, model, samples: dict[str, np.ndarray]) -> dict[str, base.Signature]:
        """``serving_default`` (tokens to logits), ``step`` (a token and the state), ``generate`` (string to string)."""
        tokens = samples["tokens"]

        def plain(tokens):
            return {"logits": networks.read(model, tokens, networks.empty_state(model, tf.shape(tokens)[0]))[0]}

        def generate(prompt, length, temperature, top_k, top_p, seed):
            choice = Choice(temperature, top_k, top_p).tensors()
            carried = sampling.start(model, *strings.encode(self.tokenizer, prompt, self.beginning))
            written, _ = sampling.write(model, carried, choice, seed, 0, length, self.tokenizer.never)
            continuation = strings.decode(self.tokenizer, written)
            return {"text": tf.strings.join([prompt, continuation]), "continuation": continuation}

        rows = [None]
        scalars = {"length": tf.int32, "temperature": tf.float32, "top_k": tf.int32, "top_p": tf.float32}
        scalars["seed"] = tf.int32
        # At other temperatures a last bit's difference may choose another token, and all that follows.
        values = {"length": VERIFIED_LENGTH, "temperature": 0.0, "top_k": 0, "top_p": 1.0, "seed": 0}
        prompts = np.array([self.tokenizer.decode(row).encode() for row in tokens], object)
        return {
            "serving_default": base.Signature(
                plain, (tf.TensorSpec([None, None], tf.int32, name="tokens"),), {"tokens": tokens}
            ),
            "step": self._step(model, tokens),
            "generate": base.Signature(
                generate,
                (
                    tf.TensorSpec(rows, tf.string, name="prompt"),
                    *(tf.TensorSpec([], kind, name=name) for name, kind in scalars.items()),
                ),
                {"prompt": prompts, **{k: np.array(v, scalars[k].as_numpy_dtype) for k, v in values.items()}},
            ),
        }

    @property
    def ranges(self) -> dict[str, Range]:
        """The numbers of `generate`'s choice, and tokens, of which a GPU reads any without a word."""
        tokens = Range(0, self.tokenizer.size - 1, whole=True)
        return {**RANGES, "token": tokens, "tokens": tokens}

    def numeric_signatures(self, model, samples: dict[str, np.ndarray]) -> dict[str, base.Signature]:
        """``step`` (a token and the state), and ``write`` (tokens to the most probable tokens that follow)."""

        def write(tokens, length):
            return {"written": sampling.most_probable(model, tokens, length, self.tokenizer.never)}

        specs = (tf.TensorSpec([None, None], tf.int32, name="tokens"), tf.TensorSpec([], tf.int32, name="length"))
        example = {"tokens": samples["tokens"], "length": np.array(VERIFIED_LENGTH, np.int32)}
        return {"step": self._step(model, samples["tokens"]), "write": base.Signature(write, specs, example)}

    @staticmethod
    def _step(model, tokens: np.ndarray) -> base.Signature:
        """From a token and the state to logits and the new state."""
        specs = networks.state_specs(model)

        def step(token, *state):
            logits, new = networks.read(model, token[:, None], dict(zip(specs, state, strict=True)))
            return {"logits": logits[:, 0], **new}

        _, state = networks.read(model, tf.constant(tokens[:, :-1]), networks.empty_state(model, len(tokens)))
        return base.Signature(
            step,
            (
                tf.TensorSpec([None], tf.int32, name="token"),
                *(tf.TensorSpec([None, *shape], dtype, name=name) for name, (shape, dtype) in specs.items()),
            ),
            {"token": tokens[:, -1], **{name: value.numpy() for name, value in state.items()}},
        )

    def encode(self, prompt: str, unknown: str = "error") -> np.ndarray:
        """Tokens of a prompt, int32 (count,), at least one.

        Raises:
            RequestError: It has characters that the model does not know, and `unknown` is ``error``.
        """
        if unknown not in ("error", "skip", "keep"):
            raise RequestError(f"unknown is {unknown!r}, and takes error, skip or keep")
        strange = self.tokenizer.unknown(prompt)
        if strange and unknown == "error":
            listed = ", ".join(f"{c!r} (U+{ord(c):04X}, {n} times)" for c, n in strange.most_common(5))
            raise RequestError(
                f"the prompt has {'a character' if len(strange) == 1 else f'{len(strange)} characters'} that the model "
                f"does not know: {listed}; it knows {self._known()}; unknown=skip leaves them out"
            )
        if unknown == "skip":
            prompt = "".join(c for c in prompt if c not in strange)
        return self.tokenizer.encode(prompt) if prompt else np.array([self.beginning], np.int32)

    def _known(self) -> str:
        vocabulary = self.tokenizer.vocabulary
        return repr(vocabulary) if len(vocabulary) <= 120 else f"{len(vocabulary)} characters"

    def _pieces(self, model, prompts, length, piece, seed, unknown, choice) -> Iterator[list[str]]:
        """Continuations of all prompts, `piece` tokens at a time."""
        RANGES["length"].check("length", length)
        RANGES["seed"].check("seed", seed)
        known = [f.name for f in dataclasses.fields(Choice)]
        for name in choice:
            if name not in known:
                raise RequestError(f"writing has no option {name!r}{nearest(name, known)}")
        choice = Choice(**choice)
        choice.check()
        rows = [self.encode(p, unknown) for p in prompts]
        decoders = [self.tokenizer.streaming() for _ in rows]
        if self._writer is None or self._writer.network is not model:
            self._writer = _Writer(model, self.tokenizer.never)
        return (
            [decode(row, final=last) for decode, row in zip(decoders, tokens, strict=True)]
            for tokens, last in self._writer.pieces(rows, choice, seed, length, piece)
        )


class _Writer:
    """A network's compiled loops."""

    def __init__(self, network, never: tuple[int, ...]):
        self.network = network
        # What runs in another runtime cannot be compiled.
        fused = isinstance(network, keras.Model) and not networks.grows(network)
        self.start = tf.function(
            lambda prompts, starts: sampling.start(network, prompts, starts),
            autograph=False,
            input_signature=[tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int32)],
        )
        self.write = tf.function(
            lambda carried, choice, seed, place, length: sampling.write(
                network, carried, Choice(*choice), seed, place, length, never, fused=fused
            ),
            autograph=False,
        )

    def pieces(self, rows, choice: Choice, seed: int, length: int, piece: int):
        """Tokens (batch, count) of consecutive pieces, each with whether it is the last one."""
        time = max(map(len, rows))
        prompts = np.stack([np.pad(row, (time - len(row), 0)) for row in rows])
        starts = np.array([time - len(row) for row in rows], np.int32)
        carried = self.start(tf.constant(prompts, tf.int32), tf.constant(starts))
        numbers = choice.tensors()
        numbers = (numbers.temperature, numbers.top_k, numbers.top_p, numbers.min_p, numbers.repetition_penalty)
        for place in range(0, length, piece):
            count = min(piece, length - place)
            tokens, carried = self.write(carried, numbers, *(tf.constant(n, tf.int32) for n in (seed, place, count)))
            yield tokens.numpy().T, place + count == length
