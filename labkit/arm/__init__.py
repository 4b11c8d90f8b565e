"""What runs on Arm: whether KleidiAI is built, enabled and running, and which instructions are executed."""
