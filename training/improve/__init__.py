"""What makes a model better, smaller or faster, each measured: ablation, search, compression, export."""
