"""Gradient steps on transitions from the replay memory, several in one compiled call."""

import contextlib
import math
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from kzoo.tasks import update_rules
from kzoo.tasks.control import acting
from kzoo.tasks.control.replay import Batch
from kzoo.tasks.control.settings import Munchausen, Train

# Bytes of the observations, as float32, that the target network judges at once.
_MOST_SHARED = 32_000_000


def targets(batch: dict, following, online_following, current, settings: Train):
    """What the chosen actions' values should be.

    Args:
        batch: ``actions``, ``rewards`` and ``discounts``, (batch,); see `kzoo.tasks.control.replay.Batch`.
        following: The target network's values of the following observations, (batch, actions).
        online_following: The online network's, needed where ``settings.double``.
        current: The target network's values of the observations, needed where ``settings.munchausen``.
        settings: Which of Mnih et al. 2015 (the default), double (van Hasselt et al. 2016, eq. 4) or Munchausen
            (Vieillard et al. 2020, eq. 2) it is.

    Returns:
        (batch,) targets.
    """
    if settings.munchausen:
        bonus, value = _munchausen(batch["actions"], current, following, settings.munchausen)
        return batch["rewards"] + bonus + batch["discounts"] * value
    if settings.double:
        chosen = tf.argmax(online_following, -1)
        value = tf.gather(following, chosen, axis=1, batch_dims=1)
    else:
        value = tf.reduce_max(following, -1)
    return batch["rewards"] + batch["discounts"] * value


def _munchausen(actions, current, following, settings: Munchausen):
    """The reward's bonus and the soft value of what follows."""
    temperature = settings.temperature
    log_policy = temperature * tf.nn.log_softmax(current / temperature)
    bonus = tf.clip_by_value(tf.gather(log_policy, actions, axis=1, batch_dims=1), settings.lowest, 0.0)
    log_next = temperature * tf.nn.log_softmax(following / temperature)
    value = tf.reduce_sum(tf.nn.softmax(following / temperature) * (following - log_next), -1)
    return settings.alpha * bonus, value


class Learner:
    """An online network, its target network, and the compiled gradient steps.

    Attributes:
        online: The network that is trained.
        target: The one that judges what follows.
        flat: All weights of the online network after the last steps, one behind the other, where it is computed by
            NumPy; else None, as before the first steps.
    """

    flat: np.ndarray | None = None

    def __init__(self, online, target, optimizer: keras.optimizers.Optimizer, settings: Train):
        self.online, self.target, self.optimizer, self.settings = online, target, optimizer, settings
        optimizer.build(online.trainable_variables)
        target.set_weights(online.get_weights())
        self._plain = acting.is_plain(online)
        jit = settings.jit_compile is True
        # Autograph would rewrite all of Keras that is called, which takes longer than the tracing itself.
        self._steps = tf.function(self._many, jit_compile=jit, reduce_retracing=True, autograph=False)

    @property
    def name(self) -> str:
        """The networks' name, for errors."""
        return self.online.name

    @property
    def variables(self) -> list:
        """All that a checkpoint keeps of both networks."""
        return [*self.online.variables, *self.target.variables]

    @contextlib.contextmanager
    def averaged(self) -> Iterator[keras.Model]:
        """Give the online network with its weights' moving averages, where the optimiser keeps any; then undo it."""
        # Before the first step the averages are zero.
        with update_rules.averaged(self.optimizer) if int(self.optimizer.iterations) else contextlib.nullcontext():
            yield self.online

    def learn(self, batches: Batch, updates: int) -> tuple:
        """Take a gradient step on each of several batches.

        Args:
            batches: Arrays with one more axis in front, (steps, batch, ...).
            updates: Gradient steps taken before.

        Returns:
            The mean loss, and the absolute temporal-difference errors, (steps, batch).
        """
        seen = np.stack([batches.observations, batches.following], 1)
        numbers = [batches.actions, batches.rewards, batches.discounts, batches.weights]
        numbers = np.stack(numbers, 1).astype(np.float32)
        shared = self._shared(seen, updates)
        loss, errors, flat = self._steps(seen, numbers, tf.constant(updates, tf.int64), shared)
        self.flat = flat.numpy() if self._plain else None
        return float(loss), errors.numpy()

    def _shared(self, seen: np.ndarray, updates: int) -> int:
        """How many steps in a row ask the target network together: it stays as it is between two copies."""
        if self.settings.target_rate:
            return 1
        between = math.gcd(len(seen), updates, self.settings.target_every)
        most = max(1, _MOST_SHARED // (4 * seen[0].size))
        return max(n for n in range(1, between + 1) if between % n == 0 and n <= most)

    def _many(self, seen, numbers, updates, shared: int):
        """All gradient steps; two arrays go in and three come out, because each costs as much as a small network."""
        count = tf.shape(numbers)[0]

        def several(start, losses, errors):
            judged = self._judged(seen[start : start + shared])

            def one(number, losses, errors):
                step = start + number
                loss, error = self._one(seen[step], numbers[step], judged[number])
                return number + 1, losses.write(step, loss), errors.write(step, error)

            _, losses, errors = tf.while_loop(
                lambda number, *_: number < shared, one, (0, losses, errors), maximum_iterations=shared
            )
            self._follow(updates + tf.cast(start, tf.int64) + shared)
            return start + shared, losses, errors

        empty = [tf.TensorArray(tf.float32, count) for _ in range(2)]
        _, losses, errors = tf.while_loop(lambda start, *_: start < count, several, (0, *empty))
        known = [tf.reshape(w.value, [-1]) for w in self.online.weights] if self._plain else [tf.zeros(0)]
        return tf.reduce_mean(losses.stack()), errors.stack(), tf.concat(known, 0)

    def _judged(self, seen):
        """What the target network says of several steps' observations, in one product each instead of many small ones.

        Args:
            seen: (steps, 2, batch, ...), what was seen and what followed.

        Returns:
            (steps, 1, batch, actions) for what followed; (steps, 2, batch, actions) where Munchausen needs both.
        """
        if not self.settings.munchausen:
            seen = seen[:, 1:]
        shape = tf.shape(seen)
        flat = tf.reshape(seen, tf.concat([[-1], shape[3:]], 0))
        values = self.target(self._floats(flat), training=False)
        return tf.reshape(values, tf.concat([shape[:3], [-1]], 0))

    def _floats(self, observations):
        return tf.ensure_shape(tf.cast(observations, tf.float32), self.online.inputs[0].shape)

    def _one(self, seen, numbers, judged):
        """One gradient step; returns the loss and the absolute errors."""
        settings = self.settings
        actions, rewards, discounts, importance = tf.unstack(numbers, num=4)
        actions = tf.cast(actions, tf.int32)
        online = self.online(self._floats(seen[1]), training=False) if settings.double else None
        current = judged[0] if settings.munchausen else None
        known = {"actions": actions, "rewards": rewards, "discounts": discounts}
        wanted = targets(known, judged[-1], online, current, settings)
        with tf.GradientTape() as tape:
            values = tf.gather(self.online(self._floats(seen[0]), training=True), actions, axis=1, batch_dims=1)
            errors = tf.stop_gradient(wanted) - values
            sizes = tf.abs(errors)
            each = tf.where(sizes < 1, 0.5 * errors**2, sizes - 0.5) if settings.loss == "huber" else errors**2
            loss = tf.reduce_mean(importance * each)
            scaled = self.optimizer.scale_loss(loss)
        weights = self.online.trainable_variables
        self.optimizer.apply(tape.gradient(scaled, [w.value for w in weights]), weights)
        return loss, sizes

    def _follow(self, updates) -> None:
        """Let the target network follow the online one."""
        target, online = self.target.variables, self.online.variables
        rate, every = self.settings.target_rate, self.settings.target_every
        if rate is not None:
            _assign(target, [t + rate * (o - t) for t, o in zip(target, online, strict=True)])
        else:
            tf.cond(updates % every == 0, lambda: _assign(target, online), lambda: None)


def _assign(variables: list, values: list) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
