"""What all commands that score share: loading a scorer, records of results, progress, signals, locks, Parquet."""
