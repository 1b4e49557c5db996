"""Finding pictures: files, folders, globs, zip and tar archives, lists. Imports nothing else of the command line."""
