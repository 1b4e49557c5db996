"""The models that the service holds: loaded, warmed, proven, and exchanged while requests go on.

``loading.py`` makes them, ``manager.py`` holds them with their batcher, ``reload.py`` loads others while these serve.
Imports ``batching`` and ``observability``.
"""
