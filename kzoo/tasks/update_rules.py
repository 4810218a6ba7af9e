"""What the zoo adds to Keras's optimisers: rates by variable, Lookahead, Muon for convolutions, a faster Adam."""

import contextlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import keras


def with_multipliers(kind: type, *multipliers: dict[str, float]) -> type:
    """An optimiser class whose learning rate is multiplied for some variables; their weight decay stays as it is.

    Args:
        kind: A Keras optimiser class.
        multipliers: From regular expressions, searched for in a variable's path such as ``stem_norm/beta``, to factors;
            a variable takes the first of each mapping that fits, and 1 where none does.
    """

    class WithMultipliers(kind):
        def build(self, variables):
            if not self.built:
                self._factors = [math.prod(_first_fit(v.path, m) for m in multipliers) for v in variables]
            super().build(variables)

        def update_step(self, gradient, variable, learning_rate):
            factor = self._factors[self._get_variable_index(variable)]
            super().update_step(gradient, variable, learning_rate * factor)

    return WithMultipliers


def with_lookahead(kind: type, every: int, decay: float, ramp: float, total_steps: int) -> type:
    """An optimiser class that pulls the weights back to a slow average now and then.

    Every few steps ``slow = d * slow + (1 - d) * weights`` and ``weights = slow``, where d rises from 0 to `decay` as
    ``decay * (step / total_steps) ** ramp``: Lookahead (Zhang et al. 2019, arXiv 1907.08610) with the schedule of
    Jordan 2024 (arXiv 2404.00498, section 3.4).

    Args:
        kind: A Keras optimiser class.
        every: Steps between two pulls.
        decay: Share of the slow weights at the end, in [0, 1).
        ramp: Exponent of the rise; 0 for a constant share.
        total_steps: Steps of the whole training.
    """
    ops = keras.ops

    class WithLookahead(kind):
        def build(self, variables):
            if self.built:
                return
            super().build(variables)
            self.averages = [self.add_variable_from_reference(v, name="slow") for v in variables]
            for slow, fast in zip(self.averages, variables, strict=True):
                slow.assign(fast)

        def apply(self, grads, trainable_variables=None):
            super().apply(grads, trainable_variables)
            step = ops.cast(self.iterations, "float32")
            ops.cond(ops.equal(self.iterations % every, 0), lambda: self._pull(step), lambda: None)

        def _pull(self, step):
            share = decay * (step / total_steps) ** ramp
            for fast, slow in zip(self._trainable_variables, self.averages, strict=True):
                part = ops.cast(share, fast.dtype)
                slow.assign(part * slow + (1 - part) * fast)
                fast.assign(slow)

    return WithLookahead


@keras.saving.register_keras_serializable("kzoo")
class FusedAdam(keras.optimizers.Adam):
    """Keras's Adam by TensorFlow's kernel for it: one pass over the weights instead of ten, for networks so small that
    the passes count.
    """

    def update_step(self, gradient, variable, learning_rate):
        """Update a variable and its moments."""
        import tensorflow as tf

        if self.amsgrad:
            return super().update_step(gradient, variable, learning_rate)
        index, step = self._get_variable_index(variable), tf.cast(self.iterations.value + 1, variable.dtype)
        beta_1, beta_2 = (tf.constant(b, variable.dtype) for b in (self.beta_1, self.beta_2))
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=beta_1**step,
            beta2_power=beta_2**step,
            lr=tf.cast(learning_rate, variable.dtype),
            beta1=beta_1,
            beta2=beta_2,
            epsilon=tf.constant(self.epsilon, variable.dtype),
            grad=tf.cast(gradient, variable.dtype),
        )


@keras.saving.register_keras_serializable("kzoo")
class Muon(keras.optimizers.Muon):
    """Keras's Muon that orthogonalises the updates of convolutions too, where Keras would take AdamW.

    A kernel's window and input channels together are the rows of its matrix and its filters the columns, as in the
    CIFAR-10 speedruns that Muon comes from (https://kellerjordan.github.io/posts/muon). Matrices of one column, such as
    depthwise kernels, stay with AdamW.
    """

    def _should_use_adamw(self, variable):
        rows, columns = _matrix(variable.shape)
        if min(rows, columns) < 2:
            return True
        # Keras's own rules, which refuse any shape but a matrix's, are asked for its name alone.
        return super()._should_use_adamw(_Named(variable.path, (rows, columns)))

    def _muon_update_step(self, gradient, variable, lr, m):
        ops = keras.ops
        self.assign_add(m, ops.add(gradient, m * (self.momentum - 1)))
        direction = ops.add(gradient, self.momentum * m) if self.nesterov else m
        matrix = ops.reshape(direction, _matrix(variable.shape))
        update = self.lr_adjust(lr * self.zeropower_via_newtonschulz5(matrix, self.ns_steps))
        self.assign_sub(variable, ops.reshape(update, variable.shape))


@dataclass(frozen=True)
class _Named:
    path: str
    shape: tuple[int, int]


def _matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of a kernel's matrix; a vector has one column."""
    return (math.prod(shape[:-1]), shape[-1]) if len(shape) > 1 else (math.prod(shape), 1)


def averages(optimizer: keras.optimizers.Optimizer) -> list | None:
    """The averaged weights that an optimiser keeps, in the order of its variables; None for one that keeps none."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if optimizer.use_ema:
        return optimizer._model_variables_moving_average
    return getattr(optimizer, "averages", None)


def put_averages(optimizer: keras.optimizers.Optimizer) -> None:
    """Put the averaged weights, where the optimiser keeps any, in the weights' place."""
    kept = averages(optimizer)
    if kept is not None:
        for variable, average in zip(variables(optimizer), kept, strict=True):
            variable.assign(average)


@contextlib.contextmanager
def averaged(optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
    """Put the averaged weights in the weights' place for the block, where the optimiser keeps any.

    Behind it the weights are what they were, bit for bit.
    """
    if averages(optimizer) is None:
        yield
        return
    own = [keras.ops.convert_to_numpy(v) for v in variables(optimizer)]
    put_averages(optimizer)
    try:
        yield
    finally:
        for variable, value in zip(variables(optimizer), own, strict=True):
            variable.assign(value)


def variables(optimizer: keras.optimizers.Optimizer) -> list:
    """The weights that an optimiser was built for, also those that are frozen for now."""
    return getattr(optimizer, "inner_optimizer", optimizer)._trainable_variables


def _first_fit(path: str, multipliers: dict[str, float]) -> float:
    return next((factor for pattern, factor in multipliers.items() if re.search(pattern, path)), 1.0)
