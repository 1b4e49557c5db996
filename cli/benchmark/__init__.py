"""``smart-iqa benchmark``: ``command`` measures, ``tables`` shows what was measured."""
