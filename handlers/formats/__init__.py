"""Wire formats of models of tensors: from a request to arrays and back."""
