"""Finding pictures.

    sources      files, folders, globs, archives, and lists on stdin
    archives     members of zip and tar archives
    picture_ref  a picture that was found: its name, and how to read it

Everything of the command line may import it; it imports nothing else of this project.
"""
