"""One page about one version of a model: how good it is, how sure that is, and where it errs."""
