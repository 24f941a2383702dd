"""One module a paper: its baseline, its axes and its variants."""
