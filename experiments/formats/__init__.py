"""Checkpoints of others, a format each, for `experiments/import_weights.py`; `state` reads their tensors."""
