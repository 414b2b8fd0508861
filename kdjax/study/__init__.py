"""Shared by experiments: selection on the validation set, statistics and claims."""
