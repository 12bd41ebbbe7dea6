"""Certificates for networks under uncertainty: what is claimed, on which assumptions, with which confidence."""
