"""Training: strategies, optimisers, schedules, losses, checkpoints, callbacks. It receives a model, and knows none."""
