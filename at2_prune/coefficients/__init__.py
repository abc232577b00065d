"""The learned coefficients, which are head coefficients and scout's coefficients, and their model cards."""
