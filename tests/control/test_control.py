"""The task as a whole: training, going on, judging, playing, exporting, and what it refuses."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control import CartPoleEnv

import kzoo
from kzoo.tasks.control import environments, figures, training
from kzoo.tasks.control.settings import Data

SMALL = {
    "arguments.hidden": [16],
    "arguments.dueling": True,
    "data.num_envs": 2,
    "train.steps": 1200,
    "train.evaluate_every": 300,
    "train.starts": 100,
    "train.train_every": 20,
    "train.gradient_steps": 4,
    "train.capacity": 500,
    "train.episodes": 3,
    "train.test_episodes": 5,
    "train.prioritised": {},
    "train.ema": 0.9,
    "train.double": True,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return kzoo.train(kzoo.load_recipe("dqn_mlp/cartpole", SMALL), out=tmp_path_factory.mktemp("control") / "run")


def arrays(run, name):
    with np.load(run.checkpoint(name)) as stored:
        # Paths are numbered anew in each process; the place before "@" is what counts.
        return {k.partition("@")[0]: stored[k] for k in stored.files if k != "document"}


def assert_same_end(run, whole):
    for name in ("last", "best"):
        ours, theirs = arrays(run, name), arrays(whole, name)
        assert ours.keys() == theirs.keys() and all(np.array_equal(ours[k], theirs[k]) for k in ours)
    rows, expected = ([{k: v for k, v in r.items() if k != "seconds"} for r in x.metrics()] for x in (run, whole))
    assert rows == expected
    assert run.summary["test"] == whole.summary["test"]


def test_a_training_closes_the_environments_that_it_made(tmp_path, monkeypatch):
    made, closed = [], []
    make, close = CartPoleEnv.__init__, CartPoleEnv.close
    monkeypatch.setattr(CartPoleEnv, "__init__", lambda env, *a, **k: (made.append(env), make(env, *a, **k))[1])
    monkeypatch.setattr(CartPoleEnv, "close", lambda env: (closed.append(env), close(env))[1])
    kzoo.train(kzoo.load_recipe("dqn_mlp/cartpole", SMALL), out=tmp_path / "run", until=1)
    assert made and {id(e) for e in made} == {id(e) for e in closed}


def test_a_training_leaves_what_a_run_has(whole):
    assert [int(r["steps"]) for r in whole.metrics()] == [300, 600, 900, 1200]
    assert whole.summary["training"]["updates"] == 4 * 55
    assert whole.summary["test"]["episodes"] == 5 and np.isfinite(whole.summary["training"]["final_return"])
    assert (whole.path / "evaluation/test/returns.png").is_file() and (whole.path / "report.html").is_file()
    assert not list(whole.path.rglob("replay-*")), "the memory of a finished run is of no use"


def test_all_steps_are_trained_where_bursts_do_not_divide_the_evaluations(tmp_path):
    changes = {
        "train.steps": 210,
        "train.evaluate_every": 50,
        "train.train_every": 20,
        "train.schedule": {"name": "cosine"},
        "train.episodes": 1,
        "train.test_episodes": 1,
    }
    recipe = kzoo.load_recipe("dqn_mlp/cartpole", {**SMALL, **changes})
    run = kzoo.train(recipe, out=tmp_path / "run")
    assert [int(r["steps"]) for r in run.metrics()] == [60, 100, 160, 200, 210]
    # 5 evaluations of 2.5 bursts of 4 gradient steps each: at step n the cosine stands at n / 50.
    for row in run.metrics()[2:]:
        expected = recipe.train.optimizer.learning_rate * (1 + np.cos(np.pi * int(row["updates"]) / 50)) / 2
        np.testing.assert_allclose(float(row["learning_rate"]), expected, rtol=1e-4)


def test_stopping_between_evaluations_changes_nothing(whole, tmp_path):
    recipe = kzoo.load_recipe("dqn_mlp/cartpole", SMALL)
    kzoo.train(recipe, out=tmp_path / "run", until=1)
    run = kzoo.train(recipe, out=tmp_path / "run", until=3)
    assert run.summary is None and len(list(run.path.rglob("replay-*"))) == 1
    assert_same_end(kzoo.resume(run.path), whole)


def test_a_killed_training_ends_where_the_whole_one_ends(whole, tmp_path):
    sets = [a for k, v in SMALL.items() for a in ("--set", f"{k}={json.dumps(v)}")]
    command = [sys.executable, "-m", "kzoo", "train", "dqn_mlp/cartpole", *sets, "--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (tmp_path / "run/checkpoints/last.npz").is_file():
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert_same_end(kzoo.resume(tmp_path / "run"), whole)


def test_a_training_killed_in_its_final_test_is_only_tested_again(whole, tmp_path):
    shutil.copytree(whole.path, tmp_path / "run")
    (tmp_path / "run/summary.json").unlink()
    assert_same_end(kzoo.resume(tmp_path / "run"), whole)


def test_a_damaged_memory_is_named(tmp_path):
    kzoo.train(kzoo.load_recipe("dqn_mlp/cartpole", SMALL), out=tmp_path / "run", until=1)
    (memory,) = (tmp_path / "run" / "checkpoints").glob("replay-*.npz")
    memory.write_bytes(memory.read_bytes()[:-100])
    with pytest.raises(kzoo.RequestError, match=r"replay-1\.npz cannot be read"):
        kzoo.resume(tmp_path / "run")


def test_the_command_line(whole, command, tmp_path):
    judged = command("evaluate", whole.path, "--episodes", 4, "--json")
    assert judged.code == 0 and json.loads(judged.out)["episodes"] == 4
    played = command("play", whole.path, "--episodes", 1, "--video", tmp_path / "x.gif", "--json")
    assert played.code == 0 and json.loads(played.out)[0]["length"] > 5
    assert (tmp_path / "x.gif").read_bytes()[:6] == b"GIF89a"
    np.save(tmp_path / "seen.npy", np.zeros((2, 4), np.float32))
    answered = command("predict", whole.path, tmp_path / "seen.npy")
    assert answered.code == 0 and answered.out.splitlines()[0].split() == ["input", "action", "q0", "q1"]
    assert len(answered.out.splitlines()) == 3


def test_what_is_no_observation_is_named(tmp_path):
    from kzoo.tasks.control.answers import Answers

    answers = Answers({"environment": {"observation_shape": [4], "dtype": "float32"}})
    model = kzoo.build("dqn_mlp", hidden=(4,))
    (tmp_path / "empty.npy").write_bytes(b"")
    np.savez(tmp_path / "several.npz", a=np.zeros(4))
    np.save(tmp_path / "words.npy", np.array(["a", "b", "c", "d"]))
    np.save(tmp_path / "none.npy", np.zeros((0, 4)))
    np.save(tmp_path / "other.npy", np.zeros((2, 3)))
    for path in tmp_path.iterdir():
        with pytest.raises(kzoo.RequestError, match=path.name):
            answers.answer(model, [path])


def test_exports_act_as_the_run_does(whole, tmp_path):
    report = kzoo.export(whole, tmp_path / "export", formats=["saved_model"])
    doors = report.formats["saved_model"]["signatures"]
    assert set(doors) == {"serving_default", "act"} and all(d["ok"] and d["agreement"] == 1 for d in doors.values())


def test_judging_takes_no_replay_memory(whole, tmp_path):
    shutil.copytree(whole.path, tmp_path / "run")
    written = (tmp_path / "run/recipe.yaml").read_text()
    (tmp_path / "run/recipe.yaml").write_text(written.replace("capacity: 500", "capacity: 1000000000000"))
    assert kzoo.evaluate(tmp_path / "run", episodes=2)["episodes"] == 2


def test_what_does_not_fit_is_one_sentence(command, small_run, whole, tmp_path):
    for arguments, reason in (
        (["play", small_run.path], "takes control runs"),
        (["train", "dqn_mlp/cartpole", "--set", "data.env=Pendulum-v1"], "discrete actions"),
    ):
        done = command(*arguments, cwd=tmp_path)
        assert done.code == 2 and len(done.err.splitlines()) == 1 and reason in done.err, (arguments, done.err)
    assert not (tmp_path / "runs").exists()
    (tmp_path / "empty.npy").touch()
    np.savez(tmp_path / "several.npz", a=np.zeros(4))
    for work, reason in (
        (lambda: kzoo.evaluate(small_run, episodes=3), "without episodes"),
        (lambda: kzoo.evaluate(whole, split="train"), "no train part"),
        (lambda: kzoo.play(whole, video=tmp_path / "x.avi"), ".gif or .mp4"),
        (lambda: kzoo.play(whole, render="ascii"), "no render mode 'ascii'"),
        (lambda: kzoo.predict(whole, np.zeros((2, 5), np.float32)), r"shape \(4,\)"),
        (lambda: kzoo.predict(whole, [np.array(["a"] * 4)]), "the array holds no array of numbers"),
        (lambda: kzoo.predict(whole, tmp_path / "empty.npy"), "empty.npy is no readable .npy"),
        (lambda: kzoo.predict(whole, tmp_path / "several.npz"), "several.npz holds no array of numbers"),
    ):
        with pytest.raises(kzoo.RequestError, match=reason):
            work()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.env=CartPool-v1", "CartPool"),
        ("data.env=nowhere:X-v0", "the module nowhere, which is neither installed nor in"),
        ("data.env_arguments={gravitas: 3}", "gravitas"),
        ("train.capacity=10", "a batch takes 64"),
        ("train.capacity=1000000000000", "GB are free"),
        ("arguments.num_actions=3", "CartPole-v1 has 2"),
        ("data.num_envs=3", "multiple of data.num_envs"),
        ("train.optimizer={name: adam, nesterov: true}", "adam of Keras has no argument 'nesterov'"),
    ],
)
def test_what_cannot_be_trained_is_told_before_anything_is_written(override, message, tmp_path):
    with pytest.raises(kzoo.RequestError, match=message):
        kzoo.train(kzoo.load_recipe("dqn_mlp/cartpole", [override]), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train.munchausen": {}, "train.n_step": 3}, "munchausen only with n_step 1"),
        ({"train.munchausen": {}, "train.n_step": 1, "train.double": True}, "only one of munchausen and double"),
        ({"train.target_rate": 0.1}, "either target_every or target_rate"),
        ({"train.steps": 1000, "train.starts": 1000}, "starts below steps, which are 1000"),
        ({"train.monitor": "val_retrun"}, "val_return"),
        ({"train.exploration": {"name": "liner"}}, "linear"),
    ],
)
def test_settings_that_contradict_each_other(changes, message):
    with pytest.raises(kzoo.RequestError, match=message):
        kzoo.load_recipe("dqn_mlp/cartpole", changes).check()


class Corridor(gymnasium.Env):
    """Walk right five times; observations are nested, actions start at 1, and time ends after eight steps."""

    observation_space = gymnasium.spaces.Dict(
        {"place": gymnasium.spaces.Discrete(6), "noise": gymnasium.spaces.Box(-1, 1, (2,))}
    )
    action_space = gymnasium.spaces.Discrete(2, start=1)
    metadata = {"render_modes": []}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.time = 0, 0
        return self._seen(), {}

    def step(self, action):
        assert action in (1, 2)
        self.place, self.time = max(0, self.place + (1 if action == 2 else -1)), self.time + 1
        return self._seen(), float(self.place == 5), self.place == 5, self.time == 8, {}

    def _seen(self):
        return {"place": self.place, "noise": self.np_random.uniform(-1, 1, 2).astype(np.float32)}


@pytest.fixture
def corridor():
    gymnasium.register("Corridor-v0", Corridor)
    yield Data(env="Corridor-v0")
    del gymnasium.registry["Corridor-v0"]


def test_nested_observations_are_flattened_and_actions_counted_from_zero(corridor):
    seen = environments.describe(corridor)
    assert (seen.observation_shape, seen.num_actions, seen.flattened) == ((8,), 2, True)


def test_observations_of_no_shape_are_one_sentence(corridor, monkeypatch):
    monkeypatch.setattr(Corridor, "observation_space", gymnasium.spaces.Sequence(gymnasium.spaces.Box(-1, 1, (2,))))
    with pytest.raises(kzoo.RequestError, match="of one shape, and those of Corridor-v0 are a Sequence space"):
        environments.describe(corridor)


def test_episodes_are_played_whole_and_counted(corridor):
    lanes = environments.Lanes(lambda: environments.make(corridor), 3, (0, 1))
    returns, lengths = environments.play(lanes, lambda seen: np.ones(len(seen), int), 7)
    assert returns.tolist() == [1.0] * 7 and lengths.tolist() == [5] * 7
    lanes = environments.Lanes(lambda: environments.make(corridor), 2, (0, 1))
    returns, lengths = environments.play(lanes, lambda seen: np.zeros(len(seen), int), 2)
    assert returns.tolist() == [0.0] * 2 and lengths.tolist() == [8] * 2


def test_lanes_come_back_to_the_middle_of_their_episodes(corridor):
    one = environments.Lanes(lambda: environments.make(corridor), 2, (4, 0))
    for step in range(13):
        for lane in range(2):
            _, terminated, truncated = one.step(lane, (step + lane) % 2)
            if terminated or truncated:
                one.reset(lane)
    two = environments.Lanes(lambda: environments.make(corridor), 2, (4, 0))
    two.restore(json.loads(json.dumps(one.state)))
    np.testing.assert_array_equal(one.observations, two.observations)
    assert one.step(0, 1) == two.step(0, 1)
    np.testing.assert_array_equal(one.observations, two.observations)


class Whim(Corridor):
    """One that does as it likes."""

    def _seen(self):
        return {"place": self.place, "noise": np.random.default_rng().uniform(-1, 1, 2).astype(np.float32)}


def test_a_training_in_an_environment_that_does_not_repeat_goes_on_and_says_so(tmp_path, capsys):
    gymnasium.register("Whim-v0", Whim)
    try:
        changed = {**SMALL, "data.env": "Whim-v0", "train.steps": 600, "train.prioritised": None}
        recipe = kzoo.load_recipe("dqn_mlp/cartpole", changed)
        kzoo.train(recipe, out=tmp_path / "run", until=1)
        run = kzoo.resume(tmp_path / "run")
    finally:
        del gymnasium.registry["Whim-v0"]
    assert "does not repeat an episode" in capsys.readouterr().err and run.summary["training"]["steps"] == 600


def test_a_policy_is_learnt_from_nested_observations(corridor, tmp_path, capsys):
    changed = {
        "arguments.hidden": [32],
        "data.env": "Corridor-v0",
        "train.steps": 3000,
        "train.evaluate_every": 1000,
        "train.starts": 200,
        "train.train_every": 10,
        "train.gradient_steps": 5,
        "train.episodes": 5,
        "train.test_episodes": 20,
        "train.exploration.share": 0.5,
    }
    run = kzoo.train(kzoo.load_recipe("dqn_mlp/cartpole", changed), out=tmp_path / "run")
    assert run.summary["test"]["return"] >= 0.8, "at random it is about 0.1"
    assert "observations of Corridor-v0 are flattened to (8,)" in capsys.readouterr().err


OWN = """
import gymnasium

class Switch(gymnasium.Env):
    observation_space, action_space = gymnasium.spaces.Discrete(2), gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.wanted = int(self.np_random.integers(2))
        return self.wanted, {}

    def step(self, action):
        return 1 - self.wanted, float(action == self.wanted), True, False, {}

gymnasium.register("Switch-v0", Switch)
"""


def test_an_environment_of_ones_own_lies_in_the_current_folder(command, tmp_path, monkeypatch):
    (tmp_path / "own_envs.py").write_text(OWN)
    small = {"arguments.hidden": [8], "train.steps": 600, "train.evaluate_every": 300, "train.starts": 100}
    sets = [w for k, v in {**small, "data.env": "own_envs:Switch-v0"}.items() for w in ("--set", f"{k}={v}")]
    # As for a console script: the folder that Python is started in is not searched by itself.
    trained = command("train", "dqn_mlp/cartpole", *sets, "--out", "x", cwd=tmp_path, env={"PYTHONSAFEPATH": "1"})
    assert trained.code == 0 and kzoo.Run(tmp_path / "x").summary["test"]["return"] > 0.5, trained.err
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_envs.py").write_text("1 / 0")
    with pytest.raises(kzoo.RequestError, match="broken_envs cannot be imported: ZeroDivisionError"):
        environments.describe(Data(env="broken_envs:X-v0"))


def test_judging_with_some_random_actions(corridor):
    def lengths(level):
        recipe = kzoo.load_recipe("dqn_mlp/cartpole", {"data.env": "Corridor-v0", "train.judged_exploration": level})
        model = kzoo.build("dqn_mlp", observation_shape=(8,), hidden=(4,))
        model.get_layer("q_values").set_weights([np.zeros((4, 2)), np.array([0.0, 1.0])])
        return training.play_episodes(recipe, model, 30, training.TEST, 0)[1]

    assert set(lengths(0.0)) == {5} and lengths(0.5).mean() > 6
    np.testing.assert_array_equal(lengths(0.5), lengths(0.5))


def test_figures_of_episodes():
    found = figures.judge(np.array([1.0, 2.0, 3.0, 10.0]), np.array([5, 5, 5, 9]))
    assert (found["return"], found["median"], found["min"], found["max"], found["length"]) == (4, 2.5, 1, 10, 6)
    assert found["std"] == pytest.approx(np.std([1, 2, 3, 10], ddof=1))
    assert found["low"] < 4 < found["high"] and found["low"] >= 1 and found["high"] <= 10
