"""The sections of a control recipe."""

from typing import Annotated, Any, ClassVar, Literal

import pydantic
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from kzoo import cards, recipe, sections
from kzoo.errors import RequestError
from kzoo.sections import Settings, Share

Probability = Annotated[float, Field(ge=0, le=1)]


class Data(Settings):
    """The environment, and what is drawn from the replay memory."""

    env: str = Field("CartPole-v1", description="a registered Gymnasium environment, or my_package:MyEnv-v0")
    env_arguments: dict[str, Any] = Field({}, description="arguments of the environment")
    stack: PositiveInt = Field(1, description="observations that the network sees together, along their last axis")
    num_envs: PositiveInt = Field(1, description="environments that are played side by side")
    batch_size: PositiveInt = Field(64, description="transitions in a gradient step")


class Linear(Settings):
    """Random actions with a probability that falls in a line, then stays."""

    name: Literal["linear"]
    initial: Probability = 1.0
    final: Probability = 0.05
    share: Annotated[float, Field(gt=0, le=1)] = Field(0.1, description="share of the training in which it falls")


class Exponential(Settings):
    """Random actions with a probability that falls by the same factor at each step."""

    name: Literal["exponential"]
    initial: Probability = 1.0
    final: Probability = 0.05
    share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.1, description="share of the training after which 1/e of the fall is left"
    )


class Boltzmann(Settings):
    """Actions with probabilities ``softmax(Q / temperature)``; the temperature falls in a line, then stays."""

    name: Literal["boltzmann"]
    initial: PositiveFloat = 1.0
    final: PositiveFloat = 0.05
    share: Annotated[float, Field(gt=0, le=1)] = Field(0.1, description="share of the training in which it falls")


class Prioritised(Settings):
    """Transitions are drawn by how wrong their value was (Schaul et al. 2016, arXiv 1511.05952)."""

    alpha: Probability = Field(0.6, description="exponent of the priorities; 0 draws evenly")
    beta: Probability = Field(0.4, description="exponent of the correction at the start; it rises to 1 in a line")


class Munchausen(Settings):
    """The policy's log-probability is added to the reward (Vieillard et al. 2020, arXiv 2007.14430)."""

    alpha: Probability = Field(0.9, description="share of the log-probability that is added")
    temperature: PositiveFloat = 0.03
    lowest: Annotated[float, Field(lt=0)] = Field(-1.0, description="what the log-probability is clipped to")


class Train(sections.Training):
    """How a Q-network learns (Mnih et al. 2015, Nature 518)."""

    steps: PositiveInt = Field(50_000, description="steps in the environments, all together")
    evaluate_every: PositiveInt = Field(5_000, description="steps between two evaluations and checkpoints")
    episodes: PositiveInt = Field(10, description="episodes of each evaluation, on seeds of their own")
    test_episodes: PositiveInt = Field(100, description="episodes of the test at the end, on other seeds")
    judged_exploration: Probability = Field(
        0.0, description="probability of a random action in evaluations; 0.05 in Mnih et al. 2015"
    )
    discount: Share = 0.99
    n_step: PositiveInt = Field(1, description="rewards that are summed before the value of what follows")
    double: bool = Field(False, description="the online network chooses the next action (arXiv 1509.06461)")
    munchausen: Munchausen | None = None
    loss: Literal["huber", "mse"] = "huber"
    capacity: PositiveInt = Field(100_000, description="transitions that the replay memory holds")
    prioritised: Prioritised | None = None
    starts: NonNegativeInt = Field(1_000, description="steps before the first gradient step")
    train_every: PositiveInt = Field(4, description="steps between two bursts of gradient steps")
    gradient_steps: PositiveInt = Field(1, description="gradient steps of a burst, in one compiled call")
    target_every: PositiveInt | None = Field(250, description="gradient steps between two copies to the target network")
    target_rate: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="instead of copies: share of the online network that each gradient step mixes in (Polyak)"
    )
    exploration: Annotated[Linear | Exponential | Boltzmann, Field(discriminator="name")] = Linear(name="linear")
    clip_rewards: bool = Field(False, description="learn from the rewards' signs only")
    life_loss_ends: bool = Field(False, description="learn as if an episode ended with each lost life")

    ema: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="momentum of the weights' moving average, which is what is evaluated and kept"
    )

    # What the optimiser's builder looks for and this training does not offer.
    lookahead: ClassVar[None] = None

    @pydantic.model_validator(mode="after")
    def _consistent(self):
        if self.munchausen and self.n_step > 1:
            raise ValueError("takes munchausen only with n_step 1")
        if self.munchausen and self.double:
            raise ValueError("takes only one of munchausen and double: munchausen's next actions are the policy's own")
        if (self.target_every is None) == (self.target_rate is None):
            raise ValueError("takes either target_every or target_rate; set the other to null")
        if self.starts >= self.steps:
            raise ValueError(f"takes starts below steps, which are {self.steps}: before it nothing is learnt")
        return self

    @property
    def epochs(self) -> int:
        """Evaluations, each of which ends what other trainings call an epoch."""
        return -(-self.steps // self.evaluate_every)


class Recipe(recipe.Recipe):
    """A control recipe."""

    data: Data = Data()
    train: Train = Train()
    figures: ClassVar[tuple[str, ...]] = ("val_return", "val_length")

    def check(self) -> None:
        """See `kzoo.recipe.Recipe.check`."""
        from kzoo.tasks.control import environments

        super().check()
        if self.train.capacity < self.data.batch_size:
            raise RequestError(
                f"train.capacity is {self.train.capacity}, and a batch takes {self.data.batch_size} transitions"
            )
        environments.describe(self.data)


class Environment(cards.Part):
    """Where a policy plays, and what it sees there."""

    env: str
    env_arguments: dict[str, Any] = Field({})
    stack: PositiveInt = 1
    observation_shape: tuple[PositiveInt, ...]
    dtype: Literal["uint8", "float32"]
    num_actions: PositiveInt


class Card(cards.Card):
    """What a policy's ``model.json`` says."""

    environment: Environment
