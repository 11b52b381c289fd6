"""Datasets: layouts that turn folders and lists into rows to plan, and prepared datasets read back for training."""
