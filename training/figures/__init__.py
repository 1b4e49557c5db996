"""Figures of a training run and of an evaluation, and the report that shows them."""
