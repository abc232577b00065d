"""Head coefficients: one learned weight per row group, layer and head, and the model card beside them."""
