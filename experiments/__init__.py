"""Programs: `python -m experiments.<name> --help`."""
