"""The comparison of a challenger with the champion."""
