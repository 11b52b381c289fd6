"""The report: what a training run and its predictions are worth, as a page, a table and figures."""
