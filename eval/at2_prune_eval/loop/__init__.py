"""The pruning loop with a cache and a meter. Every draft, score, ablation and answer is computed and measured once."""
