"""What is wrong with a data set: every problem with its place and its fix."""
