"""Finding pictures.

    sources      files, folders, globs, archives, and lists on stdin
    archives     members of zip and tar archives
    picture_ref  a picture that was found: its name, and how to read it
    exclusions   what is left out, and what was not looked at in the end

Everything of the command line may import it; it imports nothing else of the command line.
"""
