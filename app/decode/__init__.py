"""From the bytes of an upload to crops: a bounded pool of threads, or of locked-down processes.

``Decoder`` is what others use. Imports ``observability`` alone.
"""
