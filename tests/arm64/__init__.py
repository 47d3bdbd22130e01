"""The release on 64-bit Arm: installed in a Debian under emulation, and held against this PC."""
