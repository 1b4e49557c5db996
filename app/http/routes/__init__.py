"""One module for each group of addresses; ``app/main.py`` adds them to the application."""
