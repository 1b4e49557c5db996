"""The dynamic micro-batcher: crops of many requests, grouped into batches for the worker threads of a device.

Other packages use ``Batcher``, the types of ``submission.py`` and the errors of ``errors.py``; the decoder waits in a
``FairQueue`` too. Imports ``observability``, and neither torch nor a web framework.
"""
