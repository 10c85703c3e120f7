"""Encoders made to do a task: classifiers that are fitted, saved and used."""
