"""``smart-iqa pick``: the best of each group of nearly equal photos.

command  the options
run      scores the photos, groups and ranks them, delivers what came of it
shots    the photos of a run, read back from its journal
outputs  the table, CSV and JSON lines
report   the HTML report, groups side by side
"""
