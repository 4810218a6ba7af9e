"""Single-shot detectors on VGG16 (Liu et al. 2016, arXiv 1512.02325; Simonyan and Zisserman 2014, arXiv 1409.1556)."""

import os
import socket
from pathlib import Path
from typing import Literal

import keras
import numpy as np

from kzoo import boxes
from kzoo.registry import register

# Width and number of convolutions of VGG16's stages (configuration D).
STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
# The file of keras.applications, without its dense head.
IMAGENET = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"


@register(task="detection", parameters=24013232, initial=("backbone_weights",))
def vgg16_detector(
    input_shape: tuple[int, int, int] = (300, 300, 3),
    num_classes: int = 3,
    taps: tuple[Literal[3, 4, 5], ...] = (4,),
    extras: tuple[Literal["halve", "valid", "close"], ...] = ("halve", "halve", "valid", "valid"),
    scales: tuple[float, ...] = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05),
    aspect_ratios: tuple[tuple[float, ...], ...] = ((2.0,), (2.0, 3.0), (2.0, 3.0), (2.0, 3.0), (2.0,), (2.0,)),
    width: float = 1.0,
    batch_norm: bool = False,
    norm_momentum: float = 0.9,
    prior: float | None = None,
    backbone_weights: str | None = None,
    dtype_policy: str = "float32",
) -> keras.Model:
    """An SSD on VGG16: default boxes on several feature maps, each with offsets and class logits.

    The defaults are SSD300 with its COCO scales, as in torchvision's ``ssd300_vgg16``. SSD512 has the input 512x512,
    ``extras`` of four times "halve" and then "close", seven lists of ratios and eight scales. Images that are no
    squares are best taken as such, say 256x832: squeezed into a square, what is tall and narrow is missed by all
    default boxes. Networks that are trained from nothing need `batch_norm`, and on a processor a `width` of a quarter.

    The stages are called ``stage1_`` to ``stage5_`` as those of ``cnn_classifier``, whose weights therefore fit; a
    recipe's ``train.freeze`` names them, such as ``stage[12]_``.

    Args:
        input_shape: Height, width and channels of an image.
        num_classes: Number of classes of objects, at least 1; the background is one more.
        taps: Stages of VGG16 whose ends are maps too, in order. SSD has only stage 4, whose cells lie 8 pixels apart;
            small objects in small pictures need stage 3 as well, whose cells lie 4 apart.
        extras: Blocks behind VGG16, each giving one more map: "halve" is a 3x3 convolution of stride two that is padded
            by one, "valid" one of stride one without padding, "close" a 4x4 one padded by one, which makes 2x2 to 1x1.
        scales: Sides of the squares of each map as shares of the image's short side, and one more number.
        aspect_ratios: For each map the ratios above 1 of its boxes that are no squares.
        width: Factor of all channel numbers, in (0, 1] or above.
        batch_norm: Whether to normalise after each convolution but those of the heads.
        norm_momentum: Momentum of the moving statistics of batch normalisation, in (0, 1).
        prior: In (0, 1): heads start near zero, and answer everywhere that an object is there with this probability.
            The focal loss needs it, lest all the background swamp its first steps, with 0.01 (Lin et al. 2017, arXiv
            1708.02002, section 4.1); None for SSD's start.
        backbone_weights: None for random ones; "imagenet" for those of keras.applications, fetched once with their
            checksum; or the path of an ``.h5`` of that layout. Then an image is RGB from 0 to 255 less the mean colour
            of ImageNet, (123.68, 116.779, 103.939).
        dtype_policy: Keras dtype policy of all layers but the heads, which stay float32.

    Returns:
        A model from ``image``, float (batch, height, width, channels), to a dict of ``boxes``, float32 (batch, count,
        4), offsets to the default boxes, and ``classes``, float32 (batch, count, 1 + num_classes), logits, the
        background first. Its attribute ``default_boxes`` has them, see `kzoo.boxes.default_boxes`.

    Raises:
        ValueError: A number is out of its range, lengths do not agree, the image is too small, or the backbone's
            weights cannot be had.
    """
    _check(num_classes, taps, extras, scales, aspect_ratios, width, backbone_weights, batch_norm, input_shape)
    if prior is not None and not 0 < prior < 1:
        raise ValueError(f"prior is {prior}, and takes a probability above 0 and below 1")
    net = _Layers(width, batch_norm, norm_momentum, dtype_policy)
    image = keras.Input(input_shape, name="image")
    maps = _maps(net, image, taps, extras)
    per_cell = [2 + 2 * len(ratios) for ratios in aspect_ratios]
    outputs = {
        name: keras.layers.Concatenate(1, name=name, dtype="float32")(
            [
                _head(x, f"head{i}_{name}", n, size, prior is not None)
                for i, (x, n) in enumerate(zip(maps, per_cell, strict=True), 1)
            ]
        )
        for name, size in (("boxes", 4), ("classes", 1 + num_classes))
    }
    model = keras.Model(image, outputs, name="vgg16_detector")
    sizes = [tuple(x.shape[1:3]) for x in maps]
    model.default_boxes = boxes.default_boxes(
        input_shape[:2], sizes, _steps(input_shape, sizes, taps, extras), scales, aspect_ratios
    )
    if prior is not None:
        _expect(model, [f"head{i}_classes_conv" for i in range(1, 1 + len(maps))], num_classes, prior)
    if backbone_weights is not None:
        _load_backbone(model, backbone_weights)
    return model


def _check(num_classes, taps, extras, scales, aspect_ratios, width, backbone_weights, batch_norm, input_shape):
    if num_classes < 1 or width <= 0:
        raise ValueError(f"num_classes is {num_classes} and width {width}; they take at least 1, and more than 0")
    if list(taps) != sorted(set(taps)):
        raise ValueError(f"taps are {list(taps)}; each stage comes once, the finest first")
    maps = len(taps) + 1 + len(extras)
    if len(scales) != maps + 1 or len(aspect_ratios) != maps:
        raise ValueError(
            f"{len(taps)} taps, fc7 and {len(extras)} extras make {maps} maps, which need {maps} lists of "
            f"aspect_ratios and {maps + 1} scales, not {len(aspect_ratios)} and {len(scales)}"
        )
    if min(scales) <= 0 or any(r <= 1 for ratios in aspect_ratios for r in ratios):
        raise ValueError("scales must be above 0, and aspect_ratios above 1: each stands for its inverse too")
    if backbone_weights is not None and (width != 1 or batch_norm or input_shape[2] != 3):
        raise ValueError("backbone_weights fit only width 1 without batch_norm, on images of three channels")


class _Layers:
    """Layers of one network, under its settings."""

    def __init__(self, width: float, batch_norm: bool, norm_momentum: float, dtype_policy: str):
        self.width, self.batch_norm, self.momentum = width, batch_norm, norm_momentum
        self.policy = {"dtype": dtype_policy}

    def convolve(self, x, filters, kernel, name, *, stride=1, padding="same", dilation=1, initializer="glorot_uniform"):
        """Convolution, normalisation if there is one, rectification."""
        if isinstance(padding, int):
            # TensorFlow's "same" would pad an even side on the right alone; the original pads alike on all sides.
            x = keras.layers.ZeroPadding2D(padding, name=f"{name}_pad", **self.policy)(x)
            padding = "valid"
        x = keras.layers.Conv2D(
            max(1, round(filters * self.width)),
            kernel,
            stride,
            padding,
            dilation_rate=dilation,
            use_bias=not self.batch_norm,
            kernel_initializer=initializer,
            name=f"{name}_conv",
            **self.policy,
        )(x)
        if self.batch_norm:
            x = keras.layers.BatchNormalization(momentum=self.momentum, name=f"{name}_norm", **self.policy)(x)
        return keras.layers.Activation("relu", name=f"{name}_activation", **self.policy)(x)

    def pool(self, x, size, stride, name):
        """Maximum, of which an odd side's last row counts too: 75 becomes 38 as in the original, and not 37."""
        return keras.layers.MaxPooling2D(size, stride, "same", name=name, **self.policy)(x)


def _maps(net: _Layers, x, taps, extras) -> list:
    """The feature maps that have heads, the finest first."""
    maps = []
    for stage, (filters, count) in enumerate(STAGES, 1):
        for block in range(1, count + 1):
            x = net.convolve(x, filters, 3, f"stage{stage}_block{block}", initializer="he_normal")
        if stage in taps:
            maps.append(_rescaled(x, stage))
        x = net.pool(x, *((2, 2) if stage < 5 else (3, 1)), f"stage{stage}_pool")
    # The dense layers of VGG16 as convolutions, the first with holes.
    x = net.convolve(x, 1024, 3, "fc6", dilation=6)
    x = net.convolve(x, 1024, 1, "fc7")
    maps.append(x)
    for number, kind in enumerate(extras, 1):
        inner, outer = (256, 512) if number == 1 else (128, 256)
        kernel, stride, padding = {"halve": (3, 2, 1), "valid": (3, 1, 0), "close": (4, 1, 1)}[kind]
        if min(x.shape[1:3]) + 2 * padding < kernel:
            raise ValueError(
                f"the image is too small for {len(extras)} extras: {kind!r}, number {number}, gets a map of "
                f"{x.shape[1]}x{x.shape[2]} cells; take fewer, or 'halve' in the place of 'valid'"
            )
        x = net.convolve(x, inner, 1, f"extra{number}_reduce")
        x = net.convolve(x, outer, kernel, f"extra{number}", stride=stride, padding=padding or "valid")
        maps.append(x)
    return maps


def _rescaled(x, stage: int):
    """Each cell's vector at length 20, learned by channel: VGG16's maps are far larger than later ones (its 3.1)."""
    x = keras.layers.UnitNormalization(-1, name=f"unit{stage}", dtype="float32")(x)
    start = keras.initializers.Constant(20.0)
    return keras.layers.DepthwiseConv2D(
        1, use_bias=False, depthwise_initializer=start, name=f"rescale{stage}", dtype="float32"
    )(x)


def _head(x, name, per_cell, size, small):
    """A 3x3 convolution that predicts `size` numbers for each of a cell's default boxes."""
    start = keras.initializers.RandomNormal(stddev=0.01) if small else "glorot_uniform"
    x = keras.layers.Conv2D(
        per_cell * size, 3, padding="same", kernel_initializer=start, name=f"{name}_conv", dtype="float32"
    )(x)
    return keras.layers.Reshape((-1, size), name=name, dtype="float32")(x)


def _expect(model, heads, num_classes, prior) -> None:
    """Let the classes' heads answer with background but for a share of the probability."""
    logits = np.array([np.log(num_classes * (1 - prior) / prior), *[0.0] * num_classes], np.float32)
    for name in heads:
        bias = model.get_layer(name).bias
        bias.assign(np.tile(logits, bias.shape[0] // len(logits)))


def _steps(input_shape, sizes, taps, extras) -> list[tuple[float, float]]:
    """Pixels between the cells of each map: the network's stride, or an even part behind unpadded blocks."""
    stride, even = 16, False
    steps = [(float(s), float(s)) for s in (*(2 ** (stage - 1) for stage in taps), stride)]
    for kind, size in zip(extras, sizes[len(steps) :], strict=True):
        stride, even = 2 * stride, even or kind != "halve"
        steps.append(
            tuple(side / n for side, n in zip(input_shape, size, strict=False)) if even else (float(stride),) * 2
        )
    return steps


# --- weights of keras.applications --------------------------------------------------------------------------------


def _load_backbone(model, source: str) -> None:
    """Fill the five stages from weights of ``keras.applications.VGG16``."""
    path = "imagenet" if source == "imagenet" else Path(source).expanduser()
    if path == "imagenet":
        _require_network_or_file()
    elif not path.is_file():
        raise ValueError(f"backbone_weights: there is no file {source}; {_ways_on()}")
    try:
        theirs = keras.applications.VGG16(include_top=False, weights=path, input_shape=(32, 32, 3))
    except Exception as error:  # a damaged file and a failed download raise many kinds
        raise ValueError(f"backbone_weights {source} cannot be loaded: {_first_line(error)}; {_ways_on()}") from None
    for stage, (_, count) in enumerate(STAGES, 1):
        for block in range(1, count + 1):
            kernel, bias = theirs.get_layer(f"block{stage}_conv{block}").get_weights()
            if (stage, block) == (1, 1):
                # They were trained on BGR; the zoo's images are RGB.
                kernel = kernel[:, :, ::-1]
            model.get_layer(f"stage{stage}_block{block}_conv").set_weights([np.ascontiguousarray(kernel), bias])


def _require_network_or_file() -> None:
    """Say within seconds that the weights cannot be had: a download without a network may hang for minutes."""
    if _imagenet_file().is_file():
        return
    try:
        socket.create_connection(("storage.googleapis.com", 443), timeout=4).close()
    except OSError as error:
        raise ValueError(
            f"backbone_weights imagenet cannot be fetched (58.9 MB from storage.googleapis.com: "
            f"{error.strerror or error}); {_ways_on()}"
        ) from None


def _imagenet_file() -> Path:
    return Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models" / IMAGENET


def _ways_on() -> str:
    return (
        f"put {IMAGENET} at {_imagenet_file()}, name such a file as arguments.backbone_weights, or start from random "
        "weights with arguments.backbone_weights=null, arguments.batch_norm=true"
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
