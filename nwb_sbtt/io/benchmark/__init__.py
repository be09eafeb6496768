"""Files of the Neural Latents Benchmark: recordings of its tasks (`recordings`), and named arrays in HDF5 (`tensorfile`)."""
