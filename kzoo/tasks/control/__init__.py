"""Learning to act: Q-networks in Gymnasium's environments."""
