"""Low-rank adapters of a language model: learned here or elsewhere, added to the weights or served beside them."""
