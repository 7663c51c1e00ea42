"""Decoders: engines that compute the logits of a language model."""
