"""Where the training of a job runs: as a process of this machine, as a Ray job, or as a Kubernetes Job."""
