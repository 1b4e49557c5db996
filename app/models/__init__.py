"""The models of the service: loaded, warmed up, checked against golden scores, and exchanged while requests go on.

``loading.py`` loads them at the start, ``reload.py`` loads them again later, ``manager.py`` holds them with their
batcher. ``app/scoring/service.py`` keeps old generations until their last request has ended. Imports ``batching`` and
``observability``.
"""
