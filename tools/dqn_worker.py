"""One training of one side of `bench_dqn.py`, in whatever interpreter has that side.

python tools/dqn_worker.py SIDE SETTINGS    prints the steps, and the processor and wall seconds of training alone

SIDE is ``kzoo``, ``sb3`` (stable-baselines3) or ``cleanrl`` (its own program, from a checkout on PYTHONPATH).
"""

import contextlib
import io
import json
import runpy
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    side, given = sys.argv[1], json.loads(sys.argv[2])
    train = {"kzoo": kzoo, "sb3": sb3, "cleanrl": cleanrl}[side](given)
    processor, wall = time.process_time(), time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        train()
    seconds = {"processor": time.process_time() - processor, "wall": time.perf_counter() - wall}
    print(json.dumps({"steps": given["steps"], **seconds}))


def kzoo(given: dict):
    """The zoo's training, with its one evaluation at the end cut to one episode; tracing counts."""
    from kzoo import console, load_recipe, tasks
    from kzoo.quiet import import_keras
    from kzoo.run import Run

    console.set_quiet(True)
    import_keras().utils.set_random_seed(given["seed"])
    from kzoo.tasks.control.training import Training

    atari = given["env"].startswith("ALE/")
    base = "dqn_nature_cnn/pong" if atari else "dqn_mlp/cartpole"
    recipe = load_recipe(
        base,
        {
            **({} if atari else {"arguments.hidden": given["hidden"]}),
            "data": {"env": given["env"], "stack": given.get("stack", 1), "batch_size": given["batch_size"]},
            **({"data.env_arguments": {"max_num_frames_per_episode": 2000}} if atari else {}),
            "train": {
                **{k: given[k] for k in ("steps", "starts", "train_every", "gradient_steps", "target_every", "loss")},
                **{k: given[k] for k in ("capacity", "discount", "seed")},
                "evaluate_every": given["steps"] - given["steps"] % given["train_every"],
                "episodes": 1,
                "optimizer": {"name": "adam", "learning_rate": given["learning_rate"]},
                "gradient_clip": {"global_norm": given["clip"]} if given["clip"] else {},
                "exploration": {"name": "linear", "final": given["final"], "share": given["share"]},
                "clip_rewards": atari,
                "precision": given.get("precision", "float32"),
            },
        },
    )
    task = tasks.open_task(recipe)
    task.open()
    run = Run.create(task.recipe, "bench", Path(tempfile.mkdtemp()) / "run")
    training = Training(task.recipe, run, task.build(), task.build(), "val_return")
    return lambda: training.go(1)


def sb3(given: dict):
    """stable-baselines3's DQN with the same settings; it evaluates nothing."""
    import torch
    from stable_baselines3 import DQN

    torch.set_num_threads(1)
    env, atari = given["env"], given["env"].startswith("ALE/")
    if atari:
        import ale_py
        import gymnasium
        from stable_baselines3.common.env_util import make_atari_env
        from stable_baselines3.common.vec_env import VecFrameStack

        gymnasium.register_envs(ale_py)
        plain = {"frameskip": 1, "repeat_action_probability": 0.0}
        env = VecFrameStack(make_atari_env(env, env_kwargs=plain, wrapper_kwargs={"terminal_on_life_loss": False}), 4)
    agent = DQN(
        "CnnPolicy" if atari else "MlpPolicy",
        env,
        learning_rate=given["learning_rate"],
        batch_size=given["batch_size"],
        buffer_size=given["capacity"],
        learning_starts=given["starts"],
        gamma=given["discount"],
        train_freq=given["train_every"],
        gradient_steps=given["gradient_steps"],
        # The peer counts steps in the environment where the zoo counts gradient steps.
        target_update_interval=given["target_every"] * given["train_every"] // given["gradient_steps"],
        exploration_fraction=given["share"],
        exploration_final_eps=given["final"],
        max_grad_norm=given["clip"] or 1e9,
        policy_kwargs={} if atari else {"net_arch": given["hidden"]},
        seed=given["seed"],
        device="cpu",
    )
    return lambda: agent.learn(given["steps"])


def cleanrl(given: dict):
    """CleanRL's dqn.py as it is, at its own settings; its progress goes where it always goes."""
    import gymnasium  # noqa: F401
    import torch
    import torch.utils.tensorboard
    import tyro  # noqa: F401

    torch.set_num_threads(1)
    found = next(p for p in (Path(f) / "cleanrl" / "dqn.py" for f in sys.path) if p.is_file())
    options = {"total-timesteps": given["steps"], "seed": given["seed"], "env-id": given["env"]}
    arguments = [word for k, v in options.items() for word in (f"--{k}", str(v))]

    def train():
        sys.argv = [str(found), *arguments]
        with contextlib.chdir(tempfile.mkdtemp()):
            runpy.run_path(str(found), run_name="__main__")

    return train


if __name__ == "__main__":
    main()
