"""The command line. ``main.py`` lists the commands; heavy packages are imported only inside them.

    pictures   finding pictures: files, folders, globs, archives, lists
    scoring    what score, score-bulk and evaluate share: the scorer, records, signals, files
    score      smart-iqa score
    bulk       smart-iqa score-bulk
    models     smart-iqa models

Other commands are a module each. Nothing imports this package.
"""
