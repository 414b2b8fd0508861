"""A laboratory for knowledge-distillation losses in JAX."""
