"""The tables and figures of Rambau & Richter, "Towards robust adversarial examples" (JANO 7, 2025), one file each."""
