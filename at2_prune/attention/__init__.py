"""Reading attention mass inside the model's own attention function, while the model runs."""
