"""Experiments on CIFAR-10."""
