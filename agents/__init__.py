"""Training and evaluating agents, from a checkout of the repository."""
