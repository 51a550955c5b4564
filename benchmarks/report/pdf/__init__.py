"""How is a report set as PDF?"""
