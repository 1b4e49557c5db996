"""``smart-iqa models``: list, import, export and quantise checkpoints.

    command         the commands and their options
    importing       checkpoints of other projects, by the formats of ``weight_formats``
    exporting       checkpoints as ONNX or ``torch.export`` files
    precision       int8 ranges, and the differences of precisions

It imports ``model`` and ``training``; ``cli.main`` and ``cli.benchmark`` import it.
"""
