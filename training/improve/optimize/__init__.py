"""Compression: variants of a champion that are smaller or faster, measured side by side, and the choice among them.

marloop optimize fashion
"""
