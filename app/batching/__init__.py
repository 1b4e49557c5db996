"""The dynamic micro-batcher: crops of many requests, grouped into batches for the worker threads of a device.

``Batcher`` is what others use, ``jobs.py`` has what they give it and get from it, ``errors.py`` why they may get
nothing. Neither torch nor a web framework is imported here. Imports ``observability`` alone.
"""
