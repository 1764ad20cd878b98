"""Batch scripts: one description of a job, one file for each batch system that writes it down."""
