"""Pages, figures and comparisons made of reports."""
