"""Pictures to look at: sheets of edits, curves of trainings, scored pairs."""
