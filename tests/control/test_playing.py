"""Episodes as they are recorded."""

import itertools
import os
import shutil
import sys

import numpy as np
import psutil
import pytest
from gymnasium.envs.classic_control import CartPoleEnv
from matplotlib import rcParams
from PIL import Image

import kzoo
from kzoo.tasks.control import environments, playing
from kzoo.tasks.control.settings import Data


def stubborn(shape, actions):
    """A policy that always acts alike."""
    model = kzoo.build("dqn_mlp", observation_shape=shape, num_actions=actions, hidden=(4,))
    model.get_layer("q_values").set_weights([np.zeros((4, actions)), np.arange(actions) == 1])
    return model


def film(path, env, shape, actions, episodes=1):
    model = stubborn(shape, actions)
    return playing.play(model, Data(env=env), episodes=episodes, video=path, render=None, seed=0)


def test_every_second_frame_of_a_fast_environment_up_to_the_last(tmp_path):
    played = film(tmp_path / "x.gif", "CartPole-v1", (4,), 2, episodes=2)
    assert [p["episode"] for p in played] == [1, 2]
    with Image.open(tmp_path / "x.gif") as gif:
        # Each episode shows one frame more than it has steps.
        assert gif.n_frames == pytest.approx(sum(p["length"] + 1 for p in played) / 2, abs=1)
        assert gif.info["duration"] == 40 and gif.size == (600, 400)


def test_driving_is_shown_between_two_actions_too(tmp_path):
    pytest.importorskip("highway_env", reason="the extra `driving` is not installed")
    (played,) = film(tmp_path / "x.gif", "highway-fast-v0", (5, 5), 5)
    with Image.open(tmp_path / "x.gif") as gif:
        assert gif.n_frames > 4 * played["length"]
        assert np.asarray(gif.convert("L")).std() > 5, "nothing was drawn"


def test_an_mp4_takes_the_program_of_the_system_or_of_a_package(tmp_path, monkeypatch):
    pytest.importorskip("imageio_ffmpeg", reason="the extra `video` is not installed")
    monkeypatch.setattr(shutil, "which", lambda name, which=shutil.which: None if name == "ffmpeg" else which(name))
    film(tmp_path / "x.mp4", "CartPole-v1", (4,), 2)
    assert (tmp_path / "x.mp4").read_bytes()[4:8] == b"ftyp"


def test_ctrl_c_leaves_neither_a_file_nor_the_program_that_waits_for_frames(tmp_path, monkeypatch):
    program, pictures, render = tmp_path / "ffmpeg", itertools.count(), CartPoleEnv.render
    program.write_text("#!/bin/sh\nexec cat > /dev/null\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    def interrupted(environment):
        if next(pictures) == 3:
            raise KeyboardInterrupt
        return render(environment)

    monkeypatch.setattr(CartPoleEnv, "render", interrupted)
    before = psutil.Process().children()
    with pytest.raises(KeyboardInterrupt) as caught:
        film(tmp_path / "x.mp4", "CartPole-v1", (4,), 2)
    assert caught and psutil.Process().children() == before, "while the error is told, and so is all that it holds"
    assert list(tmp_path.iterdir()) == [program]


def test_without_that_program_it_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    monkeypatch.setitem(rcParams, "animation.ffmpeg_path", "no-such-program")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(kzoo.RequestError, match=r"x\.mp4 needs the program ffmpeg: .*pip install 'kzoo\[video\]'"):
        film(tmp_path / "x.mp4", "CartPole-v1", (4,), 2)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a screen has no name")
def test_without_a_screen_it_is_one_sentence(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(kzoo.RequestError, match="no screen to render on: .*--video"):
        playing.play(stubborn((4,), 2), Data(env="CartPole-v1"), episodes=1, video=None, render="human", seed=0)
    with pytest.raises(kzoo.RequestError, match="no screen to render on"):
        environments.describe(Data(env="CartPole-v1", env_arguments={"render_mode": "human"}))
