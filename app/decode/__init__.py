"""From the bytes of an upload to crops: a bounded pool of threads, or of locked-down processes.

Other packages use ``Decoder``. Imports ``observability``, and of ``batching`` the fair queue.
"""
