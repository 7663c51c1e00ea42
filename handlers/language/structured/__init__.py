"""Answers of a form: schemas, expressions, choices and calls of tools."""
