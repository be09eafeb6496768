"""Training: the objective, schedules that follow from the amount of data, the loop, checkpoints, and progress.

May import `models`, `masks`, `batch` and `config`.
"""
