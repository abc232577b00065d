"""The pruning loop with a memory and a meter: every draft, score, ablation and answer is computed once."""
