"""Measurements of trained models, as NumPy functions that return plain numbers.

Belongs here: metrics and their statistics, the blocks of evaluate/report.json, comparisons of
generators and of directions, and the figures that are read from a finished report. Nothing here
trains, and nothing knows run folders or the order of the stages, except for the paths of the
report. Training the judge and writing the report are part of the evaluate stage (`stages`).
"""
