"""Model stores that several machines share: archives and the registry at a URL, with a copy on each machine."""
