"""Experiments without data."""
