"""Trainings that come with pixelkin: what `pixelkin train NAME DATA` runs."""
