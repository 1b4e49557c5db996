"""One picture from admission to result, without HTTP.

``service.py`` holds the models and the pipeline; ``pipeline.py`` is the one way from bytes to a score, for one picture
and for several; ``request.py`` has the types that pass through it. Beside them: the score cache, rate limits, the
budget of upload bytes, the quarantine. Imports ``models``, ``decode``, ``batching`` and ``observability``, no HTTP.
"""
