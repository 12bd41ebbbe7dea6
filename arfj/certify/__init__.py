"""Certificates that hold with high probability: what samples say of the next one."""
