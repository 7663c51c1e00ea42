"""Commands that make a model better, smaller or faster, and measure it: ablation, search, compression, export."""
