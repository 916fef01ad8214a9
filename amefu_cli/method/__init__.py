"""Pure maths: indices and tensors in, tensors out. No path, no print, no default."""
