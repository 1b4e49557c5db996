"""The web page at ``/``: its files in ``static/``, and the route that sends them. Imports nothing of the service."""
