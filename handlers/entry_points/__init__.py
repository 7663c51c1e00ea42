"""What TorchServe loads by its bare name: one module for each kind of archive."""
