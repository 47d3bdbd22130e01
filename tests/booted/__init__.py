"""The product under a real systemd: booted in namespaces, and in a virtual machine."""
