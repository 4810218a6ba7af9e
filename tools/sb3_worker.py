"""One training by stable-baselines3 with the settings that its users take, in an interpreter that has it.

python tools/sb3_worker.py NAME SEED EPISODES    prints the final policy's returns over so many episodes, as JSON

NAME is one of ``SETTINGS``, which name all that differs from the peer's defaults. Their sources: hyperparams/dqn.yml of
rl-baselines3-zoo (commit 22e3ff2), and scripts/sb3_highway_dqn.py of HighwayEnv (commit 23d7d0c).
"""

import json
import sys

import gymnasium
import torch
from stable_baselines3 import DQN

# Updates as often as steps, four at a time: Acrobot and LunarLander have the same settings.
TUNED = {
    "steps": 100_000,
    "learning_rate": 6.3e-4,
    "batch_size": 128,
    "buffer_size": 50_000,
    "learning_starts": 0,
    "gamma": 0.99,
    "target_update_interval": 250,
    "train_freq": 4,
    "gradient_steps": -1,
    "exploration_fraction": 0.12,
    "exploration_final_eps": 0.1,
}
SETTINGS = {
    "cartpole": {
        "env": "CartPole-v1",
        "steps": 50_000,
        "learning_rate": 2.3e-3,
        "batch_size": 64,
        "buffer_size": 100_000,
        "learning_starts": 1_000,
        "gamma": 0.99,
        "target_update_interval": 10,
        "train_freq": 256,
        "gradient_steps": 128,
        "exploration_fraction": 0.16,
        "exploration_final_eps": 0.04,
    },
    "acrobot": {"env": "Acrobot-v1", **TUNED},
    "mountaincar": {
        "env": "MountainCar-v0",
        "steps": 120_000,
        "learning_rate": 4e-3,
        "batch_size": 128,
        "buffer_size": 10_000,
        "learning_starts": 1_000,
        "gamma": 0.98,
        "target_update_interval": 600,
        "train_freq": 16,
        "gradient_steps": 8,
        "exploration_fraction": 0.2,
        "exploration_final_eps": 0.07,
    },
    "lunarlander": {"env": "LunarLander-v3", **TUNED},
    "highway-fast": {
        "env": "highway-fast-v0",
        "steps": 20_000,
        "learning_rate": 5e-4,
        "batch_size": 32,
        "buffer_size": 15_000,
        "learning_starts": 200,
        "gamma": 0.8,
        "target_update_interval": 50,
        "train_freq": 1,
        "gradient_steps": 1,
    },
}


def main() -> None:
    name, seed, episodes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    settings = dict(SETTINGS[name])
    env, steps = settings.pop("env"), settings.pop("steps")
    agent = DQN("MlpPolicy", make(env), policy_kwargs={"net_arch": [256, 256]}, seed=seed, device="cpu", **settings)
    agent.learn(steps)
    environment = make(env)
    print(json.dumps([play(agent, environment, 1_000_000 + 1_000 * seed + n) for n in range(episodes)]))


def make(env: str) -> gymnasium.Env:
    """The environment by its name in Gymnasium."""
    if env.startswith("highway"):
        import highway_env  # noqa: F401
    return gymnasium.make(env)


def play(agent, environment, seed: int) -> float:
    """The return of one episode."""
    total, over = 0.0, False
    seen, _ = environment.reset(seed=seed)
    while not over:
        action, _ = agent.predict(seen, deterministic=True)
        seen, reward, terminated, truncated, _ = environment.step(action)
        total, over = total + float(reward), terminated or truncated
    return total


if __name__ == "__main__":
    main()
