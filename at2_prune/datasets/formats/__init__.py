"""The shapes that rows of questions come in, one file a data format."""
