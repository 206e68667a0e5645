"""Homework: make an assignment from any set of equations, grade it, plant a bug, show a solution."""
