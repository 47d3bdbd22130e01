"""converter: recordings to a bundle that a gateway can trust. The only place with TensorFlow."""
