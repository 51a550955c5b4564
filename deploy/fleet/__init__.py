"""How are many devices updated, and what runs on them?"""
