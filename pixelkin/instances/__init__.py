"""Instances of a still: from an image to objects, by several methods behind one interface."""
