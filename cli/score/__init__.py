"""``smart-iqa score``: one run over pictures at hand, its journal, outputs, selection and report."""
