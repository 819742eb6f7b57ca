"""Data sets from one format to another, with a report of what was lost on the way."""

from pixelkin.results.conversion.convert import convert_data
from pixelkin.results.conversion.opening import Origin
from pixelkin.results.conversion.report import Report

__all__ = ["Origin", "Report", "convert_data"]
