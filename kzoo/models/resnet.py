"""Residual networks (He et al. 2015, arXiv 1512.03385)."""

from typing import Literal

import keras

from kzoo.registry import register

# Blocks of each stage, and whether they are bottlenecks (table 1 of the paper).
IMAGENET = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}


@register(task="classification", parameters=271098)
def resnet(
    input_shape: tuple[int, int, int] = (32, 32, 3),
    num_classes: int = 10,
    depth: Literal[18, 20, 32, 34, 44, 50, 56, 101, 110, 152] = 20,
    stem: Literal["auto", "imagenet", "cifar"] = "auto",
    shortcut: Literal["auto", "projection", "padding"] = "auto",
    width: int = 0,
    norm_momentum: float = 0.9,
    zero_init_residual: bool = False,
    dtype_policy: str = "float32",
) -> keras.Model:
    """Stages of blocks whose input is added to their output.

    Depths 18, 34, 50, 101 and 152 are the four-stage networks of table 1 (basic blocks up to 34, bottlenecks above);
    20, 32, 44, 56 and 110 are the three-stage CIFAR networks of section 4.2. A bottleneck's stride is that of its 3x3
    convolution as in torchvision, not of its first one as in the paper.

    Args:
        input_shape: Height, width and channels of an image.
        num_classes: Number of classes, at least 2.
        depth: Layers with weights, as the paper counts them.
        stem: "imagenet" is a 7x7 convolution and a maximum, both of stride two; "cifar" a 3x3 convolution of stride
            one; "auto" is what the paper uses for that depth.
        shortcut: How a block's input gets its output's shape: "projection" is a 1x1 convolution (option B), "padding"
            takes every second pixel and adds zero channels (option A); "auto" is what the paper uses for that depth.
        width: Channels of the first stage; 0 for the paper's 64 or 16.
        norm_momentum: Momentum of the moving statistics of batch normalisation, in (0, 1).
        zero_init_residual: Whether each block starts as the identity: its last normalisation's scale starts at zero
            (Goyal et al. 2017, arXiv 1706.02677, section 5.1).
        dtype_policy: Keras dtype policy of all layers but the logits, which stay float32.

    Returns:
        A model from ``image``, float (batch, height, width, channels), to ``logits``, float32 (batch, num_classes).

    Raises:
        ValueError: A number is out of its range.
    """
    if num_classes < 2 or width < 0:
        raise ValueError(f"num_classes is {num_classes} and width {width}; they take at least 2 and 0")
    counts, bottleneck = IMAGENET.get(depth, (((depth - 2) // 6,) * 3, False))
    of_cifar = depth not in IMAGENET
    net = _Layers(dtype_policy, norm_momentum, zero_init_residual)
    image = keras.Input(input_shape, name="image")
    width = width or (16 if of_cifar else 64)
    if stem == "cifar" or (stem == "auto" and of_cifar):
        x = net.convolve(image, width, 3, 1, "stem", activate=True)
    else:
        x = net.convolve(image, width, 7, 2, "stem", activate=True)
        x = keras.layers.ZeroPadding2D(1, name="stem_pad2", dtype=dtype_policy)(x)
        x = keras.layers.MaxPooling2D(3, 2, name="stem_pool", dtype=dtype_policy)(x)
    padding = shortcut == "padding" or (shortcut == "auto" and of_cifar)
    for stage, count in enumerate(counts, start=1):
        for block in range(1, count + 1):
            stride = 2 if block == 1 and stage > 1 else 1
            name = f"stage{stage}_block{block}"
            x = net.block(x, width * 2 ** (stage - 1), stride, bottleneck, padding, name)
    x = keras.layers.GlobalAveragePooling2D(name="global_average", dtype=dtype_policy)(x)
    logits = keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return keras.Model(image, logits, name="resnet")


class _Layers:
    """Layers of one network, under its settings."""

    def __init__(self, dtype_policy: str, norm_momentum: float, zero_init_residual: bool):
        self.policy = {"dtype": dtype_policy}
        self.norm = {"momentum": norm_momentum, "epsilon": 1e-5, **self.policy}
        self.last_scale = "zeros" if zero_init_residual else "ones"

    def convolve(self, x, filters, kernel, stride, name, *, activate=False, scale="ones"):
        """Convolution and normalisation, padded alike on all sides whatever the stride, as in PyTorch."""
        if kernel > 1 and stride > 1:
            x = keras.layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad", **self.policy)(x)
        x = keras.layers.Conv2D(
            filters,
            kernel,
            stride,
            "valid" if stride > 1 else "same",
            use_bias=False,
            kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
            name=f"{name}_conv",
            **self.policy,
        )(x)
        x = keras.layers.BatchNormalization(gamma_initializer=scale, name=f"{name}_norm", **self.norm)(x)
        return self.relu(x, name) if activate else x

    def relu(self, x, name):
        """The activation."""
        return keras.layers.Activation("relu", name=f"{name}_activation", **self.policy)(x)

    def block(self, x, width, stride, bottleneck, padding, name):
        """A basic or bottleneck block with its shortcut."""
        channels = 4 * width if bottleneck else width
        if bottleneck:
            y = self.convolve(x, width, 1, 1, f"{name}_1", activate=True)
            y = self.convolve(y, width, 3, stride, f"{name}_2", activate=True)
            y = self.convolve(y, channels, 1, 1, f"{name}_3", scale=self.last_scale)
        else:
            y = self.convolve(x, width, 3, stride, f"{name}_1", activate=True)
            y = self.convolve(y, channels, 3, 1, f"{name}_2", scale=self.last_scale)
        if stride > 1 or x.shape[-1] != channels:
            x = (self.pad if padding else self.project)(x, channels, stride, name)
        return self.relu(keras.layers.Add(name=f"{name}_add", **self.policy)([y, x]), name)

    def project(self, x, channels, stride, name):
        """A 1x1 convolution to the block's output."""
        return self.convolve(x, channels, 1, stride, f"{name}_shortcut")

    def pad(self, x, channels, stride, name):
        """Every second pixel, with zero channels on both sides."""
        if stride > 1:
            x = keras.layers.AveragePooling2D(1, stride, name=f"{name}_skip", **self.policy)(x)
        more = channels - x.shape[-1]
        x = keras.layers.Reshape((*x.shape[1:], 1), name=f"{name}_deep", **self.policy)(x)
        beside = ((0, 0), (0, 0), (more // 2, more - more // 2))
        x = keras.layers.ZeroPadding3D(beside, name=f"{name}_zeros", **self.policy)(x)
        return keras.layers.Reshape((*x.shape[1:3], channels), name=f"{name}_flat", **self.policy)(x)
