"""Saving and restoring pytrees: modules, optimizer states, keys, counters, the place in the data.

A checkpoint is one safetensors file. It is written atomically, every byte is under a checksum, and reading it runs no
code. `CheckpointManager` keeps the last and the best of a run, and saves them in the background.
"""

from funcgrad.checkpoints.manager import CheckpointManager
from funcgrad.checkpoints.saving import CheckpointInfo, load_arrays, read_info, restore, save, save_arrays

__all__ = ["CheckpointInfo", "CheckpointManager", "load_arrays", "read_info", "restore", "save", "save_arrays"]
