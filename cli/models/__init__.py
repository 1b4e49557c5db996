"""``smart-iqa models``: list, verify, import, export and quantise checkpoints."""
