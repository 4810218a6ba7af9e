"""The sections of a text recipe."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from kzoo import cards, recipe, sections
from kzoo.data.reading import Reading
from kzoo.ranges import LARGEST_WHOLE, Range
from kzoo.sections import Settings, Share

# What the numbers take that say how a text is written, wherever they come from.
RANGES = {
    "length": Range(1, LARGEST_WHOLE, whole=True),
    "seed": Range(0, LARGEST_WHOLE, whole=True),
    "temperature": Range(0),
    "top_k": Range(0, LARGEST_WHOLE, whole=True),
    "top_p": Range(0, 1, above=True),
    "min_p": Range(0, 1),
    "repetition_penalty": Range(0, above=True),
}


class Data(Settings):
    """Where the text comes from and how it becomes batches."""

    source: str = Field(
        "builtin:pydoc", description="builtin:pydoc, tfds:NAME, file:PATH, folder:PATH or glob:PATTERN; .gz is unpacked"
    )
    data_dir: str | None = Field(None, description="folder of prepared TFDS data; default: TFDS_DATA_DIR")
    download: bool = Field(False, description="let TFDS fetch what is not there")
    tokenizer: Literal["characters", "bytes"] = Field(
        "characters", description="characters: those of the training part, others are unknown; bytes: of UTF-8"
    )
    errors: Literal["strict", "replace"] = Field(
        "strict", description="what bytes that are no UTF-8 do: stop, or become U+FFFD"
    )
    min_count: PositiveInt = Field(1, description="characters that the training part has less often are unknown")
    validation: Share = Field(0.1, description="share of the text held out for validation, before the test part")
    test: Share = Field(0.0, description="share of the text held out for the test, at its end")
    batch_size: PositiveInt = Field(64, description="rows of a batch")
    length: PositiveInt = Field(100, description="tokens of a chunk; gradients go back no further")
    batching: Literal["lanes", "windows"] = Field(
        "lanes",
        description="lanes: each row reads on where it stopped, with its state; windows: from random places, without",
    )
    reset: Share = Field(0.0, description="lanes: chance that a row's state is forgotten before a chunk")
    window: PositiveInt = Field(
        256, description="evaluation also judges windows of this length that start with an empty state"
    )
    sha256: str | None = Field(None, description="of the tokens, as a run records it; another text is refused")

    def reading(self) -> Reading:
        """The part of the section that says how TFDS finds its data."""
        return Reading(data_dir=self.data_dir, download=self.download)


class Sample(Settings):
    """A text that is written after every epoch, for the log."""

    length: NonNegativeInt = Field(200, description="tokens; 0 for no sample")
    prompt: str = Field("", description="what it begins with")
    temperature: Annotated[float, Field(**RANGES["temperature"].bounds)] = 0.8
    top_k: Annotated[int, Field(**RANGES["top_k"].bounds)] = 0
    top_p: Annotated[float, Field(**RANGES["top_p"].bounds)] = 1.0


class Train(sections.Train):
    """How to train a language model."""

    sample: Sample = Sample()


class Recipe(recipe.Recipe):
    """A text recipe."""

    data: Data = Data()
    train: Train = Train()
    reads_files: ClassVar[bool] = False
    figures: ClassVar[tuple[str, ...]] = ("bits", "loss", "val_bits", "val_loss")

    def check(self) -> None:
        """See `kzoo.recipe.Recipe.check`."""
        from kzoo.data.text.sources import check

        super().check()
        check(self.data.source, self.data.reading())


class Tokenizer(cards.Part):
    """Tokens of a language model; `kzoo.data.text.tokenizers` says what else they need."""

    kind: Literal["characters", "bytes"]


class State(cards.Part):
    """One tensor of a language model's state, without the batch."""

    shape: tuple[NonNegativeInt | None, ...]
    dtype: Literal["float32", "float16", "int32", "int64", "bool"]


class Card(cards.Card):
    """What a language model's ``model.json`` says."""

    tokenizer: Tokenizer
    state: dict[str, State]
