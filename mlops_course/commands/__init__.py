"""The commands of `mlops-course`, a file for each thing that somebody wants; `cli` puts them together."""
