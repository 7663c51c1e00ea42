"""``python -m training new``: a recipe from data, written to be edited."""
