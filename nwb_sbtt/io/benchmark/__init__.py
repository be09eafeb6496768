"""Files of the Neural Latents Benchmark: recordings of its tasks, and named arrays in HDF5."""
