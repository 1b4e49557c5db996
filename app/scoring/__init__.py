"""One picture from admission to result, without HTTP.

``service.py`` holds the models and the pipeline; ``pipeline.py`` takes the bytes of a picture to its score, for all
routes; ``request.py`` has the types that pass through it; ``cache.py`` has the score cache and the quarantine,
``rate_limit.py`` the rate limits. Imports ``models``, ``decode``, ``batching`` and ``observability``, no HTTP.
"""
