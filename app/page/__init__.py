"""The web page at ``/`` and the reference of the API at ``/docs``: their files, and the routes that send them.

Imports nothing of the service.
"""
