"""More recipes of a row, each beside its method's file so that what is measured there stays so."""
