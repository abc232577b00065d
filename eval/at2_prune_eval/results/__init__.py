"""The summary of a run's records: means, intervals and paired differences."""
