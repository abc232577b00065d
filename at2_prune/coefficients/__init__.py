"""Head coefficients: one learned weight per row group, layer and head, and the card beside them."""
