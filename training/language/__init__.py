"""Language models: from published weights to an archive that answers as they do."""
