"""The report: one page that shows whether pretraining helped, and everything behind it."""
