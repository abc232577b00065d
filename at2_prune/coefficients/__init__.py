"""Learned coefficients of attention heads, and the model card that is saved with head coefficients."""
