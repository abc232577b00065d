"""Encoders: small models that run beside the language model, such as embedders and rerankers."""
