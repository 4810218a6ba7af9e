"""The sections of a detection recipe."""

from typing import Annotated, ClassVar, Literal

import pydantic
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from kzoo import cards, recipe, sections
from kzoo.data.detection.collection import ObjectReading
from kzoo.sections import Settings, Share


class Augment(Settings):
    """Random changes of training pictures and their boxes, drawn anew each time; none by default."""

    flip: bool = Field(False, description="exchange left and right of every second picture")
    zoom_out: Annotated[float, Field(ge=1, le=8)] = Field(
        1.0, description="put every second picture on a ground up to this many times as wide and high"
    )
    iou_crop: bool = Field(False, description="cut a part that overlaps an object by one of SSD's shares (section 2.2)")
    scale: Share = Field(0.0, description="scale by a factor from 1 - scale to 1 + scale")
    translate: Share = Field(0.0, description="shift by up to this share of each side, each way")
    rotate: Annotated[float, Field(ge=0, le=180)] = Field(0.0, description="turn by up to this many degrees, each way")
    brightness: Share = Field(0.0, description="add up to this share of the value range, each way")
    contrast: Share = Field(0.0, description="multiply the distance from the mean by 1 - contrast to 1 + contrast")
    saturation: Share = Field(0.0, description="multiply the distance from grey by 1 - saturation to 1 + saturation")
    hue: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.0, description="turn the hue by up to this share of the circle, each way"
    )


class Data(Settings):
    """Where the pictures come from and how they become batches."""

    source: str = Field("builtin:scenes", description="builtin:scenes, kitti, voc, coco, yolo, or tfds:NAME")
    root: str | None = Field(None, description="the data set's folder, for kitti, voc, coco and yolo")
    parts: dict[Literal["train", "validation", "test"], str] = Field(
        {}, description="what the source calls its parts; default: the usual names that it has"
    )
    classes: tuple[str, ...] = Field((), description="classes in the order of their numbers; default: all there are")
    class_map: dict[str, str] = Field(
        {}, description="from the source's names to classes, or to ignore or background, such as Van: Car"
    )
    unlisted: Literal["ignore", "background"] = Field(
        "ignore", description="what objects are whose name is none of the classes"
    )
    limit: PositiveInt | None = Field(None, description="at most so many pictures of each part")
    anew: bool = Field(False, description="draw other training pictures for each pass over them, where a source draws")
    data_dir: str | None = Field(None, description="folder of prepared TFDS data; default: TFDS_DATA_DIR")
    download: bool = Field(False, description="let TFDS fetch what is not there")
    batch_size: PositiveInt = 16
    fit: Literal["stretch", "pad"] = Field(
        "stretch", description="how another aspect ratio is brought to the network's input"
    )
    validation: Share = Field(
        0.1, description="share of the training part held out, unless the source has a validation part"
    )
    seed: NonNegativeInt = Field(0, description="fixes which pictures are held out")
    normalize: Literal["auto", "imagenet", "standard", "unit"] = Field(
        "auto",
        description="imagenet: less ImageNet's mean colour; standard: zero mean and unit deviation per channel of the "
        "training pictures; unit: 0 to 1; auto: as the weights want that the training starts from, else standard",
    )
    mean: tuple[float, ...] | None = Field(None, description="of each channel from 0 to 255; what normalize finds")
    std: tuple[PositiveFloat, ...] | None = Field(None, description="of each channel; what normalize finds")
    augment: Augment = Augment()
    cache: Literal["auto", "memory", "none"] = Field(
        "auto", description="where decoded pictures are kept; auto: in memory if they fit"
    )
    on_corrupt: Literal["skip", "stop"] = Field("skip", description="what a damaged picture, label or box does")

    @pydantic.model_validator(mode="after")
    def _both(self):
        if (self.mean is None) != (self.std is None):
            raise ValueError("takes mean and std together")
        return self

    def reading(self, channels: int = 3) -> ObjectReading:
        """The part of the section that says how a source is read."""
        shared = ObjectReading.__dataclass_fields__.keys() & type(self).model_fields.keys()
        return ObjectReading(**{n: getattr(self, n) for n in shared}, channels=channels)


class Train(sections.Train):
    """How to train a detector."""

    match_overlap: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.5, description="least IoU with an object of a default box that stands for it; each object's best always does"
    )
    class_loss: Literal["mined", "focal"] = Field(
        "mined", description="mined: cross-entropy of the hardest negatives; focal: of all (arXiv 1708.02002)"
    )
    negative_ratio: PositiveFloat = Field(3.0, description="hard negatives for each positive of a picture")
    least_negatives: NonNegativeInt = Field(
        0, description="hard negatives of a picture however few positives it has; 0 leaves empty pictures out"
    )
    focal_gamma: NonNegativeFloat = Field(2.0, description="how far easy boxes count less in the focal loss")
    focal_alpha: Annotated[float, Field(gt=0, lt=1)] = Field(0.25, description="weight of objects in the focal loss")
    box_weight: PositiveFloat = Field(1.0, description="factor of the boxes' loss (alpha in SSD's eq. 1)")


class Detect(Settings):
    """How detections are made of the network's outputs when it is judged."""

    score: Annotated[float, Field(ge=0, lt=1)] = Field(0.01, description="least probability of a detection")
    overlap: Annotated[float, Field(gt=0, le=1)] = Field(
        0.45, description="IoU above which the weaker of two detections of a class is left out"
    )
    limit: PositiveInt = Field(200, description="most detections of a picture")


class Recipe(recipe.Recipe):
    """A detection recipe."""

    data: Data = Data()
    train: Train = Train()
    detect: Detect = Detect()
    figures: ClassVar[tuple[str, ...]] = (
        "loss",
        "boxes_loss",
        "classes_loss",
        "val_map50",
        "val_map",
        "val_precision",
        "val_recall",
        "val_f1",
    )

    def check(self) -> None:
        """See `kzoo.recipe.Recipe.check`."""
        from kzoo.data.detection.sources import check

        super().check()
        check(self.data.source, self.data.reading())


class Card(cards.Labelled):
    """What a detector's ``model.json`` says."""

    detect: Detect
