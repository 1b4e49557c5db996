"""Maps over a picture.

map_crops.py     the crops behind a map, and the map of quality made of their scores; needs no torch
activations.py   where the stages of a network are active
overlay.py       drawings of stage weights and of activity, as PNG; needs no torch
"""
