"""The service: HTTP in front, the scoring pipeline behind it, batches on worker threads at the end.

``main.py`` puts the application together, ``server.py`` runs it, ``settings.py`` configures it. The packages, from the
outside in; each may import what stands below it, and ``tests/test_architecture.py`` holds that:

    cluster         the same service over several machines, by Ray Serve
    http            routes, keys, uploads, problems: all code that knows of HTTP
    page            the web page, and the page to try out the API
    scoring         one picture on its way from admission to result
    models          loading models, holding them, and replacing them while requests go on
    decode          from bytes to crops, in threads or in locked-down processes
    batching        the queue, the micro-batcher, the worker threads of a device
    observability   metrics, traces, log lines
"""
