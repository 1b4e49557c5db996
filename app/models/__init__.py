"""The models that the service holds: loaded, warmed, proven, and exchanged while requests go on.

``loading.py`` makes them, ``manager.py`` holds them with their batcher, ``generations.py`` keeps old ones for requests
that still need them. Imports ``batching`` and ``observability``.
"""
