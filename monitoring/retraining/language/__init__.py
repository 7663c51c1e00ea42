"""Language models on the closed loop: they learn approved conversations, and thumbs judge what was promoted."""
