"""Training: from a recipe and a data set to a checkpoint that the service loads. Imports ``model`` alone."""
