"""MNN built with KleidiAI or without: the plan, the run, and its program llm_demo."""
