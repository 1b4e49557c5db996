"""What ends a run that was asked for rightly."""


class TrainingError(RuntimeError):
    """A run cannot go on, through nobody's misuse; what was saved before is still there."""
