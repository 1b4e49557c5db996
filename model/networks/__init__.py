"""The networks of the source papers, one file each, and their presets by name (``registry.py``)."""
