"""Fusions and few-shot heads."""
