"""How good a language model is: perplexity, speed, tasks of lm-eval, answers that must stay, and comparisons."""
