"""The Q-network of the Atari experiments (Mnih et al. 2015, Nature 518, p. 529)."""

import keras

from kzoo.models.q_head import q_head
from kzoo.registry import register


@register(task="control", parameters=1687206)
def dqn_nature_cnn(
    observation_shape: tuple[int, int, int] = (84, 84, 4),
    num_actions: int = 6,
    filters: tuple[int, ...] = (32, 64, 64),
    kernels: tuple[int, ...] = (8, 4, 3),
    strides: tuple[int, ...] = (4, 2, 1),
    hidden: int = 512,
    scale: float = 255.0,
    dueling: bool = False,
    dtype_policy: str = "float32",
) -> keras.Model:
    """Convolutions without padding, then a fully connected layer, to the value of each action.

    Args:
        observation_shape: Height, width and number of stacked frames, or channels.
        num_actions: Number of actions, at least 2.
        filters: Output channels of each convolution.
        kernels: Side of each convolution's kernel.
        strides: Stride of each convolution.
        hidden: Width of the fully connected layer.
        scale: What observations are divided by: 255 for bytes, 1 for values that are small already.
        dueling: Whether the fully connected layer is two, one for the state's value and one for the actions'
            advantages (Wang et al. 2016, arXiv 1511.06581).
        dtype_policy: Keras dtype policy of all layers but the values, which stay float32.

    Returns:
        A model from ``observation``, float (batch, height, width, channels) from 0 to `scale`, to ``q_values``, float32
        (batch, num_actions).

    Raises:
        ValueError: Lengths do not agree, the image is too small, or a number is out of its range.
    """
    _check(observation_shape, num_actions, filters, kernels, strides, hidden, scale)
    policy = {"dtype": dtype_policy}
    observation = keras.Input(observation_shape, name="observation")
    x = keras.layers.Rescaling(1 / scale, name="scale", **policy)(observation)
    for number, (width, kernel, stride) in enumerate(zip(filters, kernels, strides, strict=True), start=1):
        x = keras.layers.Conv2D(width, kernel, stride, activation="relu", name=f"conv{number}", **policy)(x)
    x = keras.layers.Flatten(name="flatten", **policy)(x)
    values = q_head(x, num_actions, hidden, "relu", dueling, dtype_policy)
    return keras.Model(observation, values, name="dqn_nature_cnn")


def _check(observation_shape, num_actions, filters, kernels, strides, hidden, scale):
    if not len(filters) == len(kernels) == len(strides):
        raise ValueError(
            f"filters, kernels and strides name {len(filters)}, {len(kernels)} and {len(strides)} convolutions"
        )
    if num_actions < 2 or min(*filters, *kernels, *strides, hidden) < 1 or scale <= 0:
        raise ValueError("there must be at least 2 actions, and all sizes and the scale must be positive")
    for side in observation_shape[:2]:
        for kernel, stride in zip(kernels, strides, strict=True):
            if side < kernel:
                raise ValueError(f"{observation_shape[0]}x{observation_shape[1]} is too small for these convolutions")
            side = (side - kernel) // stride + 1
