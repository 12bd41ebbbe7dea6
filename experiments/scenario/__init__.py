"""The experiments of Anderson and Sojoudi, made again with sizes that are exact: one file each."""
