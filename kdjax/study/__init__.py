"""What experiments share: choosing settings on validation, and their statistics."""
