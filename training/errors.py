"""The error that ends a training run."""


class TrainingError(RuntimeError):
    """A run that was started correctly cannot go on; the state saved before is untouched."""
