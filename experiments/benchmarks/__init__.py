"""One file a paper: its training step in JAX and in PyTorch, timed by `python -m experiments.benchmark <paper>`."""
