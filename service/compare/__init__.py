"""Comparison: did the student get better, by how much, and is that more than seed noise?"""
