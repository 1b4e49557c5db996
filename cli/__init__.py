"""The command line. ``main`` lists the commands; they import torch and other heavy packages only when they run.

    pictures   finding pictures: files, folders, globs, archives, lists
    scoring    what commands that score share: the scorer, records, signals, files
    score      smart-iqa score
    bulk       smart-iqa score-bulk
    benchmark  smart-iqa benchmark
    models     smart-iqa models
    options    options of several commands, and their checks
    console    output to stdout and stderr
    signals    what SIGINT and SIGTERM do
    __main__   the process: its first moment and its last

Other commands are a module each. This package may import ``app``, ``model`` and ``training``; nothing imports it.
"""
