"""The emoji world: scenes, questions with one right answer, and the composer."""
