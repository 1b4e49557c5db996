"""Metrics, traces and log lines. Imports the settings alone; all other packages may import it."""
