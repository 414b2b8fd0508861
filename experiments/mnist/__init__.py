"""Questions on MNIST."""
