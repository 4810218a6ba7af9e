"""Convolution - pooling - dense image classifiers in the manner of VGG (Simonyan and Zisserman 2014)."""

from typing import Literal

import keras

from kzoo.registry import register


@register(task="classification", parameters=289642)
def cnn_classifier(
    input_shape: tuple[int, int, int] = (32, 32, 3),
    num_classes: int = 10,
    filters: tuple[int, ...] = (32, 64, 128),
    blocks_per_stage: int | tuple[int, ...] = 2,
    kernel_size: int = 3,
    activation: str = "relu",
    batch_norm: bool = True,
    norm_momentum: float = 0.9,
    pooling: Literal["max", "average", "stride"] = "max",
    pool_first: bool = False,
    pool_before_norm: bool = False,
    stem_filters: int = 0,
    dropout: float = 0.0,
    l2: float = 0.0,
    head: Literal["global_average", "global_max", "flatten"] = "global_average",
    dense: tuple[int, ...] = (),
    head_dropout: float = 0.0,
    dtype_policy: str = "float32",
) -> keras.Model:
    """Stages of convolutions, each halving the image, under a pooled or dense head.

    A stage is `blocks_per_stage` times convolution, batch normalisation and activation, then pooling by two and
    dropout. `pool_first`, `pool_before_norm` and `stem_filters` make it a network of the CIFAR-10 speedruns (Jordan
    2024, arXiv 2404.00498, section 3). Batch normalisation follows Ioffe and Szegedy 2015 (arXiv 1502.03167), section
    3.2: the convolution before it has no bias.

    Args:
        input_shape: Height, width and channels of an image.
        num_classes: Number of classes, at least 2.
        filters: Output channels of each stage.
        blocks_per_stage: Convolutions in each stage, one number for all or one for each.
        kernel_size: Side of the square kernels.
        activation: Name of a Keras activation.
        batch_norm: Whether to normalise after each convolution.
        norm_momentum: Momentum of the moving statistics that normalise at inference, in (0, 1); Keras's own default of
            0.99 needs hundreds of steps to catch up with a short training.
        pooling: How a stage halves the image; "stride" gives its last convolution a stride of two instead.
        pool_first: Whether a stage halves the image in its first block instead of its last.
        pool_before_norm: Whether that block pools before it normalises and activates, which makes these two work on a
            quarter of the values.
        stem_filters: Output channels of a 2x2 convolution without padding, and its activation, before the first stage;
            0 for none. A recipe's ``train.whiten: stem_conv`` makes it a whitening of the training images.
        dropout: Share of values dropped after each stage, in [0, 1).
        l2: Weight of the L2 penalty on all kernels.
        head: How the last feature map becomes a vector.
        dense: Widths of the dense layers between that vector and the classes.
        head_dropout: Share of values dropped before each dense layer and before the classes, in [0, 1).
        dtype_policy: Keras dtype policy of all layers but the logits, which stay float32.

    Returns:
        A model from ``image``, float (batch, height, width, channels), to ``logits``, float32 (batch, num_classes).

    Raises:
        ValueError: The image is too small for that many stages, or lengths do not agree.
    """
    blocks = (blocks_per_stage,) * len(filters) if isinstance(blocks_per_stage, int) else blocks_per_stage
    _check(input_shape, num_classes, filters, blocks, stem_filters)
    layers, policy = keras.layers, {"dtype": dtype_policy}
    penalty = {"kernel_regularizer": keras.regularizers.L2(l2)} if l2 else {}

    def halve(x, stage):
        kind = layers.MaxPooling2D if pooling == "max" else layers.AveragePooling2D
        return kind(2, name=f"stage{stage}_pool", **policy)(x)

    def block(x, stage, number, width, halving):
        name, stride = f"stage{stage}_block{number}", 2 if halving and pooling == "stride" else 1
        halving = halving and pooling != "stride"
        x = layers.Conv2D(
            width, kernel_size, stride, "same", use_bias=not batch_norm, name=f"{name}_conv", **penalty, **policy
        )(x)
        if halving and pool_before_norm:
            x = halve(x, stage)
        if batch_norm:
            x = layers.BatchNormalization(momentum=norm_momentum, name=f"{name}_norm", **policy)(x)
        x = layers.Activation(activation, name=f"{name}_activation", **policy)(x)
        return halve(x, stage) if halving and not pool_before_norm else x

    image = keras.Input(input_shape, name="image")
    x = image
    if stem_filters:
        x = layers.Conv2D(stem_filters, 2, name="stem_conv", **penalty, **policy)(x)
        x = layers.Activation(activation, name="stem_activation", **policy)(x)
    for stage, (width, count) in enumerate(zip(filters, blocks, strict=True), start=1):
        for number in range(1, count + 1):
            x = block(x, stage, number, width, halving=number == (1 if pool_first else count))
        if dropout:
            x = layers.Dropout(dropout, name=f"stage{stage}_dropout", **policy)(x)

    reduce = {
        "global_average": layers.GlobalAveragePooling2D,
        "global_max": layers.GlobalMaxPooling2D,
        "flatten": layers.Flatten,
    }[head]
    x = reduce(name=head, **policy)(x)
    for number, width in enumerate(dense, start=1):
        if head_dropout:
            x = layers.Dropout(head_dropout, name=f"dense{number}_dropout", **policy)(x)
        x = layers.Dense(width, activation=activation, name=f"dense{number}", **penalty, **policy)(x)
    if head_dropout:
        x = layers.Dropout(head_dropout, name="logits_dropout", **policy)(x)
    logits = layers.Dense(num_classes, dtype="float32", name="logits", **penalty)(x)
    return keras.Model(image, logits, name="cnn_classifier")


def _check(input_shape, num_classes, filters, blocks, stem_filters):
    if num_classes < 2:
        raise ValueError(f"num_classes is {num_classes}, and a classifier needs at least 2")
    if not filters or min(filters) < 1 or min(blocks, default=0) < 1:
        raise ValueError("filters and blocks_per_stage must name at least one stage, of positive numbers")
    if len(blocks) != len(filters):
        raise ValueError(f"blocks_per_stage names {len(blocks)} stages and filters {len(filters)}")
    if stem_filters < 0:
        raise ValueError(f"stem_filters is {stem_filters}, and takes 0 or more")
    least = 2 ** len(filters) + bool(stem_filters)
    if min(input_shape[:2]) < least:
        raise ValueError(
            f"{len(filters)} stages halve the image {len(filters)} times, so it must be at least "
            f"{least} pixels wide and high, not {input_shape[0]}x{input_shape[1]}"
        )
