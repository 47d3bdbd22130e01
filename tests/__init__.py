"""Tests of the whole product; the benchmarks live in `benchmarks`."""
