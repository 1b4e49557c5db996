"""``smart-iqa score``: one run over pictures on this machine.

    command    the command and its options
    run        the run: score, keep a journal, deliver the results
    journal    results on disk, from which an interrupted run goes on
    outputs    table, CSV, JSON lines and Parquet
    selection  filtering, sorting, copying and moving
    gallery    the HTML report
    page       what HTML reports share: one file, style, thumbnails

It imports ``cli.pictures``, ``cli.scoring`` and ``model``; ``cli.pick`` and ``cli.policy`` use parts of it.
"""
