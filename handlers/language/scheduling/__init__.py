"""Which requests are answered at each step, with which part of a prompt, in which slot of the decoder."""
