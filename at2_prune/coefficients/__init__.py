"""Learned coefficients and their model cards. There are head coefficients and coefficients of scout."""
