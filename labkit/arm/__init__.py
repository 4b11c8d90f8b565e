"""What runs on Arm: is KleidiAI built, enabled, running; which instructions are executed."""
