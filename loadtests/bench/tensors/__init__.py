"""The bench for models of tensors."""
