"""``keras.layers.LSTM`` with its numbers and its weights, made for training on processors.

Left to automatic differentiation, every time step of the backward pass multiplies two thin matrices and adds the
product up in memory, for each weight. Here the backward pass is written by hand: the loop keeps the gradient of the
gates' sums, and each weight's gradient is one large product after it.
"""

import functools

import keras
import numpy as np


@keras.saving.register_keras_serializable("kzoo")
class LSTM(keras.layers.LSTM):
    """Long short-term memory (Hochreiter and Schmidhuber 1997; with a forget gate, Gers et al. 2000).

    Weights, arguments and results are those of ``keras.layers.LSTM``; three things differ. On a processor under
    TensorFlow it takes the hand-written path of this module, unless an argument asks for what that does not do (other
    activations, masks, recurrent dropout, going backwards); a GPU takes Keras's own fused kernel. Under mixed precision
    the states stay in the variables' precision, and only the operands of the matrix products are rounded. And recurrent
    weights can be dropped.

    Args:
        units: Width of the state.
        weight_dropout: Share of the recurrent weights that are zero in a training step, in [0, 1), the others being
            scaled up (DropConnect on the recurrent matrix: Merity et al. 2017, arXiv 1708.02182, section 3).
        **kwargs: Of ``keras.layers.LSTM``.
    """

    def __init__(self, units: int, weight_dropout: float = 0.0, **kwargs):
        super().__init__(units, **kwargs)
        self.weight_dropout = weight_dropout
        # Keras would round the states on their way in, so this layer converts what it is given by itself.
        self._convert_input_args = False

    def __call__(self, sequences, *args, **kwargs):
        """Call the layer; arrays become tensors of their own precision."""
        given = keras.tree.map_structure(_tensor, (sequences, args, kwargs))
        return super().__call__(given[0], *given[1], **given[2])

    def call(self, sequences, initial_state=None, mask=None, training=False):
        """As that of ``keras.layers.LSTM``.

        Args:
            sequences: Float (batch, time, features).
            initial_state: The pair of h and c, each (batch, units); zeros by default.
            mask: Boolean (batch, time), or None.
            training: Whether dropout acts.
        """
        sequences = keras.ops.cast(sequences, self.compute_dtype)
        if initial_state is None:
            zeros = keras.ops.zeros((keras.ops.shape(sequences)[0], self.units), self.variable_dtype)
            initial_state = [zeros, zeros]
        h, c = (keras.ops.cast(s, self.variable_dtype) for s in initial_state)
        drops = bool(training) and self.weight_dropout > 0
        if not self._is_plain(mask, training) or (_has_gpu() and not drops):
            return self._stock_call(sequences, h, c, mask, training)
        kernel, bias = (keras.ops.cast(w, self.compute_dtype) for w in (self.cell.kernel, self.cell.bias))
        recurrent = keras.ops.cast(self.cell.recurrent_kernel, self.compute_dtype)
        if drops:
            recurrent = keras.random.dropout(recurrent, self.weight_dropout, seed=self.cell.seed_generator)
        if sequences.shape[1] == 1:
            h, c = _step(keras.ops.matmul(sequences[:, 0], kernel) + bias, h, c, recurrent)
            outputs = keras.ops.cast(h, self.compute_dtype)[:, None]
        else:
            outputs, h, c = (_differentiable_scan if training else _scan)(sequences, h, c, kernel, recurrent, bias)
        outputs = outputs if self.return_sequences else keras.ops.cast(h, self.compute_dtype)
        return (outputs, h, c) if self.return_state else outputs

    def stock(self) -> keras.layers.LSTM:
        """The same layer, without its weights, as one of Keras's own."""
        config = {k: v for k, v in self.get_config().items() if k != "weight_dropout"}
        return keras.layers.LSTM.from_config(config)

    def get_config(self):
        """Arguments that make this layer again."""
        return {**super().get_config(), "weight_dropout": self.weight_dropout}

    def _is_plain(self, mask, training) -> bool:
        dropping = training and (self.dropout or self.recurrent_dropout)
        usual = self.activation is keras.activations.tanh and self.recurrent_activation is keras.activations.sigmoid
        plain = usual and self.use_bias and not (self.go_backwards or self.stateful or self.unroll)
        return keras.backend.backend() == "tensorflow" and plain and mask is None and not dropping

    def _stock_call(self, sequences, h, c, mask, training):
        states = [keras.ops.cast(s, self.compute_dtype) for s in (h, c)]
        found = super().call(sequences, initial_state=states, mask=mask, training=training)
        if not self.return_state:
            return found
        return (found[0], *(keras.ops.cast(s, self.variable_dtype) for s in found[1:]))


def _tensor(value):
    return keras.ops.convert_to_tensor(value) if isinstance(value, np.ndarray) else value


@functools.cache
def _has_gpu() -> bool:
    if keras.backend.backend() != "tensorflow":
        return True
    import tensorflow as tf

    return bool(tf.config.list_logical_devices("GPU"))


def _step(z, h, c, recurrent):
    """One step from the gates' sums over the input, (batch, 4 * units) in the order i, f, g, o, to new h and c."""
    ops = keras.ops
    z = ops.cast(z + ops.matmul(ops.cast(h, recurrent.dtype), recurrent), c.dtype)
    i, f, g, o = ops.split(z, 4, axis=-1)
    c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
    return ops.sigmoid(o) * ops.tanh(c), c


def _project(x, kernels, biases):
    """Each gate's sums over the input of all steps at once: (time, batch, units) of x (time, batch, features)."""
    import tensorflow as tf

    batch = tf.shape(x)[1] if x.shape[1] is None else x.shape[1]
    rows, shape = tf.reshape(x, [-1, x.shape[2]]), [tf.shape(x)[0], batch, kernels[0].shape[1]]
    return [tf.reshape(tf.nn.bias_add(tf.matmul(rows, k), b), shape) for k, b in zip(kernels, biases, strict=True)]


def _gates(sums, h, recurrents, kind):
    """Activated gates i, f, g, o, in the precision `kind`, from each one's sums over the input and its own weights.

    A product for each gate costs no more than one for all, whose result would have to be taken apart.
    """
    import tensorflow as tf

    h = tf.cast(h, recurrents[0].dtype)
    sums = [tf.cast(z + tf.matmul(h, r), kind) for z, r in zip(sums, recurrents, strict=True)]
    return [f(z) for f, z in zip((tf.sigmoid, tf.sigmoid, tf.tanh, tf.sigmoid), sums, strict=True)]


def _time_major(sequences, h, c):
    """Sequences with the time first, h and c, all of which know of the batch what one of them knows.

    Loops need the same shapes at the end of a step as at its beginning.
    """
    import tensorflow as tf

    x = tf.transpose(sequences, [1, 0, 2])
    batch = x.shape[1:2].merge_with(h.shape[:1]).merge_with(c.shape[:1])
    h, c = (tf.ensure_shape(s, [*batch, h.shape[1]]) for s in (h, c))
    return tf.ensure_shape(x, [x.shape[0], *batch, x.shape[2]]), h, c


def _array(like, time, shape):
    import tensorflow as tf

    # Read more than once where two gradients are asked for.
    return tf.TensorArray(like, time, element_shape=shape, clear_after_read=False)


def _scan(sequences, h, c, kernel, recurrent, bias):
    """All steps; nothing is kept for a backward pass.

    Returns:
        Outputs, (batch, time, units) in the precision of the input, and the last h and c.
    """
    import tensorflow as tf

    x, h, c = _time_major(sequences, h, c)
    kernels, recurrents, biases = (tf.split(w, 4, -1) for w in (kernel, recurrent, bias))
    sums, time = _project(x, kernels, biases), tf.shape(x)[0]

    def body(t, h, c, outputs):
        i, f, g, o = _gates([z[t] for z in sums], h, recurrents, c.dtype)
        c = f * c + i * g
        h = o * tf.tanh(c)
        return t + 1, h, c, outputs.write(t, tf.cast(h, x.dtype))

    state = (0, h, c, _array(x.dtype, time, h.shape))
    _, h, c, outputs = tf.while_loop(lambda t, *_: t < time, body, state, maximum_iterations=time)
    return tf.transpose(outputs.stack(), [1, 0, 2]), h, c


def _differentiable_scan(sequences, h, c, kernel, recurrent, bias):
    """`_scan` with a backward pass of one matrix product for each weight."""
    import tensorflow as tf

    units = recurrent.shape[0]

    @tf.custom_gradient
    def scan(x, h0, c0, kernel, recurrent, bias):
        outputs, h, c, kept = _forward(x, h0, c0, kernel, recurrent, bias)

        def backward(d_outputs, d_h, d_c):
            d_z, d_h0, d_c0 = _backward(d_outputs, d_h, d_c, kept, recurrent)
            rows = tf.reshape(d_z, [-1, 4 * units])
            before = tf.concat([tf.cast(h0, x.dtype)[None], outputs[:-1]], 0)
            ones = tf.ones([1, tf.shape(rows)[0]], rows.dtype)
            return (
                tf.reshape(tf.matmul(rows, kernel, transpose_b=True), tf.shape(x)),
                d_h0,
                d_c0,
                tf.matmul(tf.reshape(x, [-1, x.shape[2]]), rows, transpose_a=True),
                tf.matmul(tf.reshape(before, [-1, units]), rows, transpose_a=True),
                # A sum over rows; as a product it is several times faster.
                tf.matmul(ones, rows)[0],
            )

        return (outputs, h, c), backward

    x, h, c = _time_major(sequences, h, c)
    outputs, h, c = scan(x, h, c, kernel, recurrent, bias)
    return tf.transpose(outputs, [1, 0, 2]), h, c


def _forward(x, h, c, kernel, recurrent, bias):
    """All steps, from time-major inputs.

    Returns:
        Outputs (time, batch, units), the last h and c, and what the backward pass reads: arrays over the steps of the
        activated gates, and of the cells with the one before the first step in front.
    """
    import tensorflow as tf

    kernels, recurrents, biases = (tf.split(w, 4, -1) for w in (kernel, recurrent, bias))
    sums, time = _project(x, kernels, biases), tf.shape(x)[0]

    def body(t, h, c, outputs, cells, *kept):
        gates = _gates([z[t] for z in sums], h, recurrents, c.dtype)
        i, f, g, o = gates
        c = f * c + i * g
        h = o * tf.tanh(c)
        kept = [k.write(t, gate) for k, gate in zip(kept, gates, strict=True)]
        return t + 1, h, c, outputs.write(t, tf.cast(h, x.dtype)), cells.write(t + 1, c), *kept

    # The arrays are handed to the backward pass as they are: stacked and taken apart again, they would be copied twice.
    cells = _array(c.dtype, time + 1, c.shape).write(0, c)
    state = (0, h, c, _array(x.dtype, time, h.shape), cells, *(_array(c.dtype, time, c.shape) for _ in range(4)))
    _, h, c, outputs, *kept = tf.while_loop(lambda t, *_: t < time, body, state, maximum_iterations=time)
    return outputs.stack(), h, c, kept


def _backward(d_outputs, d_h, d_c, kept, recurrent):
    """Backpropagation through time.

    Returns:
        Gradients of the gates' sums, (time, batch, 4 * units) in the precision of the products, and of the first h
        and c.
    """
    import tensorflow as tf

    cells, *gates = kept
    batch, units = cells.element_shape
    d_outputs = tf.ensure_shape(d_outputs, [None, batch, units])
    d_h, d_c = (tf.ensure_shape(d, [batch, units]) for d in (d_h, d_c))
    time, transposed = tf.shape(d_outputs)[0], tf.transpose(recurrent)

    def body(t, d_h, d_c, c, d_z):
        i, f, g, o = (gate.read(t) for gate in gates)
        before, squashed = cells.read(t), tf.tanh(c)
        d_h = d_h + tf.cast(d_outputs[t], d_h.dtype)
        d_c = d_c + tf.raw_ops.TanhGrad(y=squashed, dy=d_h * o)
        pieces = (
            tf.raw_ops.SigmoidGrad(y=i, dy=d_c * g),
            tf.raw_ops.SigmoidGrad(y=f, dy=d_c * before),
            tf.raw_ops.TanhGrad(y=g, dy=d_c * i),
            tf.raw_ops.SigmoidGrad(y=o, dy=d_h * squashed),
        )
        d_sums = tf.concat([tf.cast(p, recurrent.dtype) for p in pieces], -1)
        d_h = tf.cast(tf.matmul(d_sums, transposed), d_h.dtype)
        return t - 1, d_h, d_c * f, before, d_z.write(t, d_sums)

    state = (time - 1, d_h, d_c, cells.read(time), _array(recurrent.dtype, time, [batch, 4 * units]))
    _, d_h, d_c, _, d_z = tf.while_loop(lambda t, *_: t >= 0, body, state, maximum_iterations=time)
    return d_z.stack(), d_h, d_c
