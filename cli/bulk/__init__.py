"""``smart-iqa score-bulk``: pictures by the million, on this machine or on a Ray cluster.

    command      the command and its options
    listing      from inputs to units: lists of pictures, or parts of archives
    units        the pictures of a unit
    stores       files of this machine and of object stores
    job          the list of units, frozen when the job begins, and the files of finished units
    run          score the missing units and write their files
    local        scoring units in this process
    cluster      scoring units on a Ray cluster
    ray_workers  what runs on the nodes of the cluster
    collect      putting units together from rows that arrive in any order
    rows         the columns and files of scores
    progress     progress bar, or lines in a log

It imports ``cli.pictures``, ``cli.scoring`` and ``model``; only ``cli.main`` imports it.
"""
