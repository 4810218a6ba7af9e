"""Q-networks of fully connected layers, for observations that are vectors."""

import keras

from kzoo.models.q_head import q_head
from kzoo.registry import register


@register(task="control", parameters=67586)
def dqn_mlp(
    observation_shape: tuple[int, ...] = (4,),
    num_actions: int = 2,
    hidden: tuple[int, ...] = (256, 256),
    activation: str = "relu",
    dueling: bool = False,
    dtype_policy: str = "float32",
) -> keras.Model:
    """Fully connected layers from an observation to the value of each action.

    Args:
        observation_shape: Shape of an observation; it is flattened.
        num_actions: Number of actions, at least 2.
        hidden: Width of each hidden layer.
        activation: Name of a Keras activation.
        dueling: Whether the last hidden layer is two, one for the state's value and one for the actions' advantages
            (Wang et al. 2016, arXiv 1511.06581).
        dtype_policy: Keras dtype policy of all layers but the values, which stay float32.

    Returns:
        A model from ``observation``, float (batch, *observation_shape), to ``q_values``, float32 (batch, num_actions).

    Raises:
        ValueError: A number is out of its range.
    """
    if num_actions < 2 or not hidden or min(hidden) < 1:
        raise ValueError("there must be at least 2 actions and a hidden layer, each of positive width")
    policy = {"dtype": dtype_policy}
    observation = keras.Input(observation_shape, name="observation")
    x = keras.layers.Flatten(name="flatten", **policy)(observation)
    for number, width in enumerate(hidden[:-1], start=1):
        x = keras.layers.Dense(width, activation=activation, name=f"hidden{number}", **policy)(x)
    values = q_head(x, num_actions, hidden[-1], activation, dueling, dtype_policy)
    return keras.Model(observation, values, name="dqn_mlp")
