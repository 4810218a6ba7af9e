"""From observations to actions, in Python and inside exported graphs."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kzoo.errors import RequestError
from kzoo.tasks import base
from kzoo.tasks.control import acting, playing
from kzoo.tasks.control.settings import Data


class Answers(base.Answers):
    """A trained Q-network's actions."""

    def __init__(self, card: dict[str, Any]):
        super().__init__(card)
        self.shape = tuple(card["environment"]["observation_shape"])
        self.dtype = np.dtype(card["environment"]["dtype"])

    def answer(self, model, inputs: list) -> list[dict[str, Any]]:
        """The greedy action for each observation.

        Args:
            model: The network.
            inputs: ``.npy`` files' paths or arrays: single observations, or several at once along a first axis.

        Returns:
            For each observation its ``input``, ``action`` and ``q_values``.
        """
        values, answers = acting.values_of(model), []
        for given in inputs:
            name = str(given) if isinstance(given, str | Path) else None
            for row in values(self._read(given)):
                answers.append({"input": name, "action": int(row.argmax()), "q_values": [float(v) for v in row]})
        return answers

    def table(self, answers: list[dict[str, Any]]) -> list[list[str]]:
        """Each observation's action and values."""
        header = ["input", "action", *(f"q{n}" for n in range(len(answers[0]["q_values"])))]
        return [header, *([a["input"], str(a["action"]), *(f"{v:.4f}" for v in a["q_values"])] for a in answers)]

    def play(self, model, *, episodes: int, video: Path | None, render: str | None, seed: int) -> list[dict[str, Any]]:
        """Whole episodes; see `kzoo.play.play`."""
        where = self.card["environment"]
        data = Data(env=where["env"], env_arguments=where.get("env_arguments", {}), stack=where.get("stack", 1))
        return playing.play(model, data, episodes=episodes, video=video, render=render, seed=seed)

    def blank(self) -> dict[str, np.ndarray]:
        """An observation of zeros."""
        return {"observations": np.zeros((1, *self.shape), self.dtype)}

    def network_inputs(self, samples: dict[str, np.ndarray]) -> np.ndarray:
        """Observations as float32."""
        return samples["observations"].astype(np.float32)

    def signatures(self, model, samples: dict[str, np.ndarray]) -> dict[str, base.Signature]:
        """``serving_default`` (the plain network) and ``act`` (raw observations to greedy actions)."""

        def plain(observation):
            return {"q_values": model(observation, training=False)}

        spec = tf.TensorSpec([None, *self.shape], tf.float32, name="observation")
        network = base.Signature(plain, (spec,), {"observation": self.network_inputs(samples)})
        return {"serving_default": network, **self.numeric_signatures(model, samples)}

    def numeric_signatures(self, model, samples: dict[str, np.ndarray]) -> dict[str, base.Signature]:
        """``act``: raw observations to greedy actions."""

        def act(observations):
            values = model(tf.cast(observations, tf.float32), training=False)
            return {"action": tf.argmax(values, -1), "q_values": values}

        spec = tf.TensorSpec([None, *self.shape], tf.as_dtype(self.dtype), name="observations")
        return {"act": base.Signature(act, (spec,), {"observations": samples["observations"]})}

    def _read(self, given) -> np.ndarray:
        """Observations, float32 (several, ...)."""
        name = given if isinstance(given, str | Path) else "the array"
        try:
            values = np.asarray(np.load(given, allow_pickle=False) if isinstance(given, str | Path) else given)
        # What NumPy says to a picture is advice to allow pickles.
        except (OSError, EOFError, TypeError, ValueError, zipfile.BadZipFile):
            raise RequestError(f"{name} is no readable .npy file of observations") from None
        if values.dtype.kind not in "biuf" or not values.size:
            raise RequestError(f"{name} holds no array of numbers, as which observations come")
        values = values.astype(np.float32)
        if values.shape == self.shape:
            values = values[None]
        if values.shape[1:] != self.shape:
            raise RequestError(f"an observation has the shape {self.shape}, and {name} is {values.shape}")
        return values
