"""Chains of trainings and questions: from tags to masks."""
