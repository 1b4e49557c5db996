"""The routes, a module for each group of paths; ``app/main.py`` adds them to the application."""
