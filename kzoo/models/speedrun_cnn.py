"""The networks of the CIFAR-10 speedruns (Jordan 2024, arXiv 2404.00498)."""

import keras
import numpy as np

from kzoo.registry import register


@register(task="classification", parameters=1973944)
def speedrun_cnn(
    input_shape: tuple[int, int, int] = (32, 32, 3),
    num_classes: int = 10,
    widths: tuple[int, ...] = (64, 256, 256),
    convolutions: int = 2,
    residual: bool = False,
    stem_kernel: int = 2,
    activation: str = "gelu",
    norm_momentum: float = 0.6,
    logit_divisor: float = 9.0,
    dtype_policy: str = "float32",
) -> keras.Model:
    """A whitening stem, three groups of convolutions that each halve the image, a maximum and a linear layer.

    A group's first convolution is pooled before it is normalised, and each convolution is followed by batch
    normalisation without a scale and the activation. Convolutions start as the identity on as many channels as their
    input has (dirac; section 3.3 of the paper). The stem is meant to be whitened and frozen by the recipe:
    ``train.whiten: stem_conv`` (section 3.2).

    airbench94 is the default; airbench95 has widths 128, 384, 384; airbench96 has widths 128, 384, 512, three
    convolutions and `residual`.

    Args:
        input_shape: Height, width and channels of an image.
        num_classes: Number of classes, at least 2.
        widths: Output channels of each group.
        convolutions: Convolutions in each group.
        residual: Whether the second convolution's input is added to the last one's normalised output, before its
            activation.
        stem_kernel: Side of the stem's square kernel; it has twice as many filters as a patch has values.
        activation: Name of a Keras activation.
        norm_momentum: Momentum of the moving statistics of batch normalisation, in (0, 1).
        logit_divisor: What the logits are divided by, above 0.
        dtype_policy: Keras dtype policy of all layers but the activations and the logits, which stay float32.

    Returns:
        A model from ``image``, float (batch, height, width, channels), to ``logits``, float32 (batch, num_classes).

    Raises:
        ValueError: The image is too small for that many groups, or a number is out of its range.
    """
    _check(input_shape, num_classes, widths, convolutions, stem_kernel, logit_divisor)
    layers, policy = keras.layers, {"dtype": dtype_policy}
    # Uniform within 1 / sqrt(fan_in), PyTorch's own start, for which the paper's learning rates are meant.
    uniform = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")

    def convolve(x, width, name):
        return layers.Conv2D(
            width, 3, padding="same", use_bias=False, kernel_initializer=uniform, name=f"{name}_conv", **policy
        )(x)

    def normalize(x, name):
        norm = layers.BatchNormalization(
            momentum=norm_momentum, epsilon=1e-7, scale=False, name=f"{name}_norm", **policy
        )
        return norm(x)

    def activate(x, name):
        # In float32 under each policy: on a CPU TensorFlow's erf takes twice as long in bfloat16.
        return layers.Activation(activation, name=f"{name}_activation", dtype="float32")(x)

    image = keras.Input(input_shape, name="image")
    x = layers.Conv2D(2 * stem_kernel**2 * input_shape[2], stem_kernel, name="stem_conv", **policy)(image)
    x = activate(x, "stem")
    for number, width in enumerate(widths, start=1):
        name = f"group{number}_block1"
        x = layers.MaxPooling2D(2, name=f"group{number}_pool", **policy)(convolve(x, width, name))
        x = shortcut = activate(normalize(x, name), name)
        for block in range(2, convolutions + 1):
            name = f"group{number}_block{block}"
            x = normalize(convolve(x, width, name), name)
            if residual and block == convolutions:
                x = layers.Add(name=f"group{number}_add", **policy)([x, shortcut])
            x = activate(x, name)
    x = layers.GlobalMaxPooling2D(name="global_max", **policy)(x)
    x = layers.Dense(num_classes, use_bias=False, kernel_initializer=uniform, dtype="float32", name="unscaled")(x)
    logits = layers.Rescaling(1 / logit_divisor, dtype="float32", name="logits")(x)
    model = keras.Model(image, logits, name="speedrun_cnn")
    for layer in model.layers:
        if isinstance(layer, layers.Conv2D) and layer.name != "stem_conv":
            _start_as_identity(layer)
    return model


def _start_as_identity(layer: keras.layers.Conv2D) -> None:
    """Let the first filters pass their channel on; the others keep their random start."""
    kernel = np.array(layer.kernel)
    shared = min(kernel.shape[2:])
    kernel[..., :shared] = 0
    kernel[1, 1, range(shared), range(shared)] = 1
    layer.kernel.assign(kernel)


def _check(input_shape, num_classes, widths, convolutions, stem_kernel, logit_divisor):
    if num_classes < 2:
        raise ValueError(f"num_classes is {num_classes}, and a classifier needs at least 2")
    if logit_divisor <= 0:
        raise ValueError(f"logit_divisor is {logit_divisor}, and must be above 0")
    if not widths or min(*widths, convolutions, stem_kernel) < 1:
        raise ValueError("widths, convolutions and stem_kernel must be positive, and widths name at least one group")
    least = 2 ** len(widths) + stem_kernel - 1
    if min(input_shape[:2]) < least:
        raise ValueError(
            f"{len(widths)} groups halve the image {len(widths)} times, so it must be at least {least} pixels wide and "
            f"high, not {input_shape[0]}x{input_shape[1]}"
        )
