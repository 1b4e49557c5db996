"""What the commands that score share.

    scorer     loading a calibrated scorer, and the settings that decide its scores
    stream     from pictures to records of results, in order
    progress   the progress bar
    parquet    columns, types and files of results as Parquet
    signals    ending a run at Ctrl-C or SIGTERM

All of it may be imported by the commands. It imports ``cli.pictures`` and ``cli.console``, and no command.
"""
