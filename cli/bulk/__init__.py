"""``smart-iqa score-bulk``: pictures by the million, in units, on this machine or on a Ray cluster."""
