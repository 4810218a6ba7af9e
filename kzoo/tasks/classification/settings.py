"""The sections of a classification recipe."""

import dataclasses
from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from kzoo import cards, recipe, sections
from kzoo.data.reading import Reading
from kzoo.sections import Settings, Share


class RandAugment(Settings):
    """Some random operations of one strength for each image (arXiv 1909.13719)."""

    operations: PositiveInt = Field(2, description="operations for each image")
    magnitude: Annotated[float, Field(ge=0, le=30)] = Field(9.0, description="their strength, from 0 to 30")


class Augment(Settings):
    """Random changes of training images, drawn anew for each image and epoch; none by default."""

    flip: Literal["none", "horizontal", "vertical", "both", "alternating"] = Field(
        "none", description="alternating: horizontally, every second time that an image comes (arXiv 2404.00498)"
    )
    translate: NonNegativeInt = Field(0, description="shift by up to this many pixels, each way")
    rotate: Annotated[float, Field(ge=0, le=180)] = Field(0.0, description="turn by up to this many degrees, each way")
    zoom: Share = Field(0.0, description="scale by a factor from 1 - zoom to 1 + zoom")
    shear: Share = Field(0.0, description="slant by up to this share of the height, each way")
    crop: Share = Field(0.0, description="cut away up to this share of each side and scale back")
    brightness: Share = Field(0.0, description="add up to this share of the value range, each way")
    contrast: Share = Field(0.0, description="multiply the distance from the mean by 1 - contrast to 1 + contrast")
    cutout: NonNegativeInt = Field(0, description="blank a square of this side (arXiv 1708.04552)")
    mixup: NonNegativeFloat = Field(0.0, description="add images up in shares from Beta(a, a) (arXiv 1710.09412)")
    cutmix: NonNegativeFloat = Field(
        0.0, description="put a rectangle of another image in, its area from Beta(a, a) (arXiv 1905.04899)"
    )
    randaugment: RandAugment | None = None
    fill: Literal["reflect", "constant"] = Field("reflect", description="what stands beyond the border")


class Data(Settings):
    """Where the images come from and how they become batches."""

    source: str = Field("builtin:digits", description="builtin:digits, tfds:NAME, folder:PATH or npz:PATH")
    data_dir: str | None = Field(None, description="folder of prepared TFDS data; default: TFDS_DATA_DIR")
    download: bool = Field(False, description="let TFDS fetch what is not there")
    batch_size: PositiveInt = 128
    image_size: tuple[PositiveInt, PositiveInt] | None = Field(None, description="height and width; default: as stored")
    channels: Literal[1, 3] | None = Field(None, description="1 grey, 3 colour; default: as stored")
    fit: Literal["stretch", "crop", "pad"] = Field(
        "stretch", description="how another aspect ratio is brought to image_size"
    )
    validation: Share = Field(
        0.1, description="share of the training part held out, unless the source has a validation part"
    )
    seed: NonNegativeInt = Field(0, description="fixes which images are held out")
    normalize: Literal["standard", "unit"] = Field(
        "standard",
        description="standard: zero mean and unit deviation per channel of the training images; unit: 0 to 1",
    )
    augment: Augment = Augment()
    tta: Literal["none", "mirror", "mirror_translate"] = Field(
        "none",
        description="evaluation also averages the logits of each image and its mirror image, and of both shifted by a "
        "pixel along the diagonal and back (arXiv 2404.00498)",
    )
    cache: Literal["auto", "memory", "disk", "none"] = Field(
        "auto", description="where decoded images are kept: memory, disk (tfds), none (folders: decoded each time)"
    )
    on_corrupt: Literal["skip", "stop"] = Field("skip", description="what an unreadable file of a folder does")

    def reading(self) -> Reading:
        """The part of the section that says how images are read."""
        names = {"size": "image_size"}
        return Reading(**{f.name: getattr(self, names.get(f.name, f.name)) for f in dataclasses.fields(Reading)})


class Train(sections.Train):
    """How to train a classifier."""

    label_smoothing: Share = 0.0
    whiten: str | None = Field(
        None, description="convolution whose kernel is frozen as a whitening of the training images' patches"
    )
    whiten_bias_epochs: PositiveInt | None = Field(
        None, description="epochs in which that convolution's bias is trained, then frozen too; null: all of them"
    )
    class_weights: Literal["none", "balanced"] | dict[str, NonNegativeFloat] = Field(
        "none",
        description="weight of each class in the loss, by class name; balanced: inverse to its frequency",
    )


class Recipe(recipe.Recipe):
    """A classification recipe."""

    data: Data = Data()
    train: Train = Train()
    figures: ClassVar[tuple[str, ...]] = ("accuracy", "loss", "val_accuracy", "val_loss")

    def check(self) -> None:
        """See `kzoo.recipe.Recipe.check`."""
        from kzoo.data.sources import check

        super().check()
        check(self.data.source, self.data.reading())


class Card(cards.Labelled):
    """What a classifier's ``model.json`` says."""
