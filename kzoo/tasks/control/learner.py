"""Gradient steps on transitions from the replay memory, several in one compiled call."""

import keras
import numpy as np
import tensorflow as tf

from kzoo.tasks.control import acting
from kzoo.tasks.control.replay import Batch
from kzoo.tasks.control.settings import Munchausen, Train


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
        loss, errors, flat = self._steps(seen, np.stack(numbers, 1).astype(np.float32), tf.constant(updates, tf.int64))
        self.flat = flat.numpy() if self._plain else None
        return float(loss), errors.numpy()

    def _many(self, seen, numbers, updates):
        """All gradient steps; two arrays go in and three come out, because each costs as much as a small network."""
        count = tf.shape(numbers)[0]

        def one(step, losses, errors):
            actions, rewards, discounts, weights = tf.unstack(numbers[step], num=4)
            batch = {"observations": seen[step, 0], "following": seen[step, 1], "actions": tf.cast(actions, tf.int32)}
            loss, error = self._one({**batch, "rewards": rewards, "discounts": discounts, "weights": weights})
            self._follow(updates + tf.cast(step, tf.int64) + 1)
            return step + 1, losses.write(step, loss), errors.write(step, error)

        empty = [tf.TensorArray(tf.float32, count) for _ in range(2)]
        _, losses, errors = tf.while_loop(lambda step, *_: step < count, one, (0, *empty), maximum_iterations=count)
        known = [tf.reshape(w.value, [-1]) for w in self.online.weights] if self._plain else [tf.zeros(0)]
        return tf.reduce_mean(losses.stack()), errors.stack(), tf.concat(known, 0)

    def _one(self, batch: dict):
        """One gradient step; returns the loss and the absolute errors."""
        settings = self.settings
        seen, following = (tf.cast(batch[k], tf.float32) for k in ("observations", "following"))
        wanted = targets(
            batch,
            self.target(following, training=False),
            self.online(following, training=False) if settings.double else None,
            self.target(seen, training=False) if settings.munchausen else None,
            settings,
        )
        with tf.GradientTape() as tape:
            values = tf.gather(self.online(seen, training=True), batch["actions"], axis=1, batch_dims=1)
            errors = tf.stop_gradient(wanted) - values
            sizes = tf.abs(errors)
            each = tf.where(sizes < 1, 0.5 * errors**2, sizes - 0.5) if settings.loss == "huber" else errors**2
            loss = tf.reduce_mean(batch["weights"] * each)
            scaled = self.optimizer.scale_loss(loss)
        weights = self.online.trainable_variables
        self.optimizer.apply(tape.gradient(scaled, [w.value for w in weights]), weights)
        return loss, sizes

    def _follow(self, updates) -> None:
        """Let the target network follow the online one."""
        pairs = list(zip(self.target.variables, self.online.variables, strict=True))
        rate, every = self.settings.target_rate, self.settings.target_every
        if rate is not None:
            for target, online in pairs:
                target.assign(target + rate * (online - target))
        else:
            tf.cond(updates % every == 0, lambda: _copy(pairs), lambda: None)


def _copy(pairs: list) -> None:
    for target, online in pairs:
        target.assign(online)
