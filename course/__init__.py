"""Homework: make an assignment, grade it, plant a bug, show a solution."""
