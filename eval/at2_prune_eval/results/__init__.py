"""A run's records summed up: means, intervals and paired differences."""
