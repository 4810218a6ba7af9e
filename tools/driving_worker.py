"""highway-env's own DQN example in an interpreter that has stable-baselines3 and highway-env.

python tools/driving_worker.py SEED EPISODES    prints the final policy's returns over so many episodes, as JSON

Settings: scripts/sb3_highway_dqn.py of HighwayEnv (commit 23d7d0c), which names all that differ from the peer's
defaults.
"""

import json
import sys

import gymnasium
import highway_env  # noqa: F401
import torch
from stable_baselines3 import DQN

STEPS = 20_000


def main() -> None:
    seed, episodes = int(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    agent = DQN(
        "MlpPolicy",
        gymnasium.make("highway-fast-v0"),
        policy_kwargs={"net_arch": [256, 256]},
        learning_rate=5e-4,
        buffer_size=15_000,
        learning_starts=200,
        batch_size=32,
        gamma=0.8,
        train_freq=1,
        gradient_steps=1,
        target_update_interval=50,
        seed=seed,
        device="cpu",
    )
    agent.learn(STEPS)
    environment = gymnasium.make("highway-fast-v0")
    print(json.dumps([play(agent, environment, 1_000_000 + 1_000 * seed + n) for n in range(episodes)]))


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
