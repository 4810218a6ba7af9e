"""Fully connected image classifiers."""

import keras

from kzoo.registry import register


@register(task="classification", parameters=89610)
def mlp_classifier(
    input_shape: tuple[int, int, int] = (28, 28, 1),
    num_classes: int = 10,
    units: tuple[int, ...] = (100, 100),
    activation: str = "relu",
    batch_norm: bool = False,
    dropout: float = 0.0,
    l2: float = 0.0,
    dtype_policy: str = "float32",
) -> keras.Model:
    """Flattened pixels through dense layers: the 784-100-100-10 network and its relatives.

    Args:
        input_shape: Height, width and channels of an image.
        num_classes: Number of classes, at least 2.
        units: Widths of the hidden layers.
        activation: Name of a Keras activation; "sigmoid" and "relu" are the usual two.
        batch_norm: Whether to normalise before each activation.
        dropout: Share of values dropped after each hidden layer, in [0, 1).
        l2: Weight of the L2 penalty on all kernels.
        dtype_policy: Keras dtype policy of all layers but the logits, which stay float32.

    Returns:
        A model from ``image``, float (batch, height, width, channels), to ``logits``, float32 (batch, num_classes).

    Raises:
        ValueError: A width is not positive, or there are fewer than 2 classes.
    """
    if num_classes < 2 or min(units, default=1) < 1:
        raise ValueError(f"num_classes ({num_classes}) must be at least 2 and units ({units}) positive")
    layers, policy = keras.layers, {"dtype": dtype_policy}
    penalty = {"kernel_regularizer": keras.regularizers.L2(l2)} if l2 else {}

    image = keras.Input(input_shape, name="image")
    x = layers.Flatten(name="flatten", **policy)(image)
    for number, width in enumerate(units, start=1):
        x = layers.Dense(width, use_bias=not batch_norm, name=f"dense{number}", **penalty, **policy)(x)
        if batch_norm:
            x = layers.BatchNormalization(name=f"dense{number}_norm", **policy)(x)
        x = layers.Activation(activation, name=f"dense{number}_activation", **policy)(x)
        if dropout:
            x = layers.Dropout(dropout, name=f"dense{number}_dropout", **policy)(x)
    logits = layers.Dense(num_classes, dtype="float32", name="logits", **penalty)(x)
    return keras.Model(image, logits, name="mlp_classifier")
