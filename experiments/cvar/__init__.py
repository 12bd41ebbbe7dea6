"""The worst-case CVaR study: closed loop, digits, iris, and what certificates cost."""
