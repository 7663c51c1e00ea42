"""Compression: variants of a champion that are smaller or faster, measured side by side, and the choice among them.

python -m training optimize fashion
"""
