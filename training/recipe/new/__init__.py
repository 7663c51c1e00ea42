"""``marloop new``: a recipe from data, written to be edited."""
