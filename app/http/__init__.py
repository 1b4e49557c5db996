"""All code that knows of HTTP: connections, keys, uploads, routes, problems, the OpenAPI document.

``deps.py`` turns a request into a typed ``ScoreRequest``, ``problems.py`` turns every error into an answer. Routes are
thin: they call ``app.scoring``. Imports ``scoring``, ``models``, ``decode``, ``batching`` and ``observability``; only
``app.main``, ``app.cluster`` and the command line import it.
"""
