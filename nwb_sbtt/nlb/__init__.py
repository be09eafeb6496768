"""The Neural Latents Benchmark: from its files to a submission, scored as the benchmark scores it (Pei, Ye et al. 2021)."""
